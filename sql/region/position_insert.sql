INSERT INTO tablecast.position (name, stream, store, seq, chain, last_tx, base_tx, covered, as_of, applied_at,
                                lets_in, left_out)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
