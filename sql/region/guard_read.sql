SELECT mode, DATE_FORMAT(since, '%Y-%m-%dT%H:%i:%s.%fZ') AS since, changed_by, reason, problem
  FROM tablecast.guard WHERE name = ?
