SELECT DATE_FORMAT(paused_since, '%Y-%m-%dT%H:%i:%s.%fZ') AS paused_since,
       DATE_FORMAT(paused_until, '%Y-%m-%dT%H:%i:%s.%fZ') AS paused_until, paused_by, pause_reason,
       DATE_FORMAT(failed_at, '%Y-%m-%dT%H:%i:%s.%fZ')    AS failed_at, failed_job, failed_run, error_kind, error, hint
  FROM tablecast.state WHERE name = ?
