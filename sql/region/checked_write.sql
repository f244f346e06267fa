INSERT INTO tablecast.checked (name, table_schema, table_name, differs, state)
VALUES (?, ?, ?, ?, ?) AS new
ON DUPLICATE KEY UPDATE differs = new.differs, state = new.state
