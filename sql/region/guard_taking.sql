INSERT INTO tablecast.guard_taken (name, table_schema, table_name, account_user, account_host, column_name, taken, taking,
                                   rest)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) AS new
ON DUPLICATE KEY UPDATE taken = new.taken, taking = new.taking, rest = new.rest
