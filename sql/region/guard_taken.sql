SELECT account_user, account_host, table_schema, table_name, column_name, taken, taking, rest
  FROM tablecast.guard_taken WHERE name = ? ORDER BY table_schema, table_name, account_user, account_host, column_name
