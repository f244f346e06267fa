UPDATE tablecast.state
   SET failed_at = NULL, failed_job = NULL, failed_run = NULL, error_kind = NULL, error = NULL, hint = NULL
 WHERE name = ? AND failed_at IS NOT NULL
