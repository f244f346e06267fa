SELECT covered, DATE_FORMAT(applied_at, '%Y-%m-%d %H:%i:%s.%f')
  FROM tablecast.position WHERE name = ? AND (? IS NULL OR applied_at <> ?)
