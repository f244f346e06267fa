DELETE FROM tablecast.checked
WHERE name = ?
  AND NOT EXISTS (
    SELECT 1 FROM information_schema.TABLES there
    WHERE there.TABLE_SCHEMA = checked.table_schema AND there.TABLE_NAME = checked.table_name)
