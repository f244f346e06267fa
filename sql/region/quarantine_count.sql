UPDATE tablecast.quarantine SET passed_over = passed_over + ?, counted_to = ?
 WHERE name = ? AND table_schema = ? AND table_name = ? AND counted_to < ?
