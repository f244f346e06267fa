UPDATE tablecast.position SET lets_in = ? WHERE name = ?
