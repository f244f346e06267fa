DELETE FROM tablecast.checked WHERE name = ? AND table_schema = ? AND table_name = ?
