DELETE FROM tablecast.guard_taken
 WHERE name = ? AND table_schema = ? AND table_name = ? AND account_user = ? AND account_host = ? AND column_name = ?
