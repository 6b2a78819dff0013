"""What we accept, part by part: the tables of a reference file (``attest.reference``)."""
