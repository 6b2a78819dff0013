"""The lies by what they lie about; ``attest.mock.faults`` lists them all."""
