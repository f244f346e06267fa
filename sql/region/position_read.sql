SELECT stream, store, seq, chain, last_tx, base_tx, covered,
       DATE_FORMAT(as_of, '%Y-%m-%dT%H:%i:%s.%fZ')         AS as_of,
       DATE_FORMAT(applied_at, '%Y-%m-%dT%H:%i:%s.%fZ')    AS applied_at,
       head_etag, lets_in, left_out
  FROM tablecast.position WHERE name = ?
