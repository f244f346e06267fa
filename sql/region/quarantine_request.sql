UPDATE tablecast.quarantine
   SET request = ?, request_error = ?, request_attempts = ?, requested_at = COALESCE(requested_at, UTC_TIMESTAMP(6))
 WHERE name = ? AND table_schema = ? AND table_name = ?
