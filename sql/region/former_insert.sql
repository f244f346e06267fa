-- The same change carried out again after a kill no longer sees the quarantine that told whose rows these are.
INSERT INTO tablecast.former (name, table_schema, table_name, own, entry, left_at) VALUES (?, ?, ?, ?, ?, ?) AS new
ON DUPLICATE KEY UPDATE
  own     = IF(tablecast.former.entry = new.entry, tablecast.former.own, new.own),
  entry   = new.entry,
  left_at = new.left_at
