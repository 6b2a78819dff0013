"""The sealed channel: HPKE, chunked OHTTP, binary HTTP, padding."""
