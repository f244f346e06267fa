DELETE FROM tablecast.quarantine WHERE name = ? AND table_schema = ? AND table_name = ?
