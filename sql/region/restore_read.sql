SELECT id, why, tables, state, entry, dump, at_tx, until_tx, row_count, row_total, attempts, request, plan, message,
       DATE_FORMAT(wanted_at, '%Y-%m-%dT%H:%i:%s.%fZ')   AS wanted_at,
       DATE_FORMAT(started_at, '%Y-%m-%dT%H:%i:%s.%fZ')  AS started_at,
       DATE_FORMAT(loaded_at, '%Y-%m-%dT%H:%i:%s.%fZ')   AS loaded_at,
       DATE_FORMAT(finished_at, '%Y-%m-%dT%H:%i:%s.%fZ') AS finished_at
  FROM tablecast.restore WHERE name = ?
