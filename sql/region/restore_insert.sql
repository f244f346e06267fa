INSERT INTO tablecast.restore (name, why, tables, state, entry, dump, at_tx, wanted_at, for_entry)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
