//! What the bucket holds: keys, entries, the index and its chain. Pure documents and their rules; no I/O.
