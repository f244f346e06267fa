SELECT table_schema, table_name, reason, since_tx, source_gtid, code, error,
       DATE_FORMAT(at, '%Y-%m-%dT%H:%i:%s.%fZ')           AS at,
       passed_over, counted_to, request,
       DATE_FORMAT(requested_at, '%Y-%m-%dT%H:%i:%s.%fZ') AS requested_at,
       request_error, request_attempts
  FROM tablecast.quarantine WHERE name = ? ORDER BY table_schema, table_name
