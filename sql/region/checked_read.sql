SELECT state FROM tablecast.checked WHERE name = ?
