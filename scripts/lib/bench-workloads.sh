# shellcheck shell=bash
# Part of scripts/bench: what the primary's binlogs hold. Each workload sets title, described, tables, unit and units.

make_tables() {
  mini_logs=() set_of_tables='g.t1 g.t2 g.t3 g.t4'
  sql primary <<'SQL'
CREATE DATABASE g;
CREATE DATABASE p;
USE g;
SET SESSION cte_max_recursion_depth = 100000;
CREATE TABLE g.t1 (id INT AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL, c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL, KEY (k));
INSERT INTO g.t1 (k, c, pad) WITH RECURSIVE s AS (SELECT 1 n UNION ALL SELECT n + 1 FROM s WHERE n < 25000)
  SELECT n * 7 % 25000, REPEAT(SHA2(n, 224), 2), SHA2(n + 1, 224) FROM s;
CREATE TABLE g.t2 LIKE g.t1; INSERT INTO g.t2 SELECT * FROM g.t1;
CREATE TABLE g.t3 LIKE g.t1; INSERT INTO g.t3 SELECT * FROM g.t1;
CREATE TABLE g.t4 LIKE g.t1; INSERT INTO g.t4 SELECT * FROM g.t1;
CREATE TABLE p.t1 LIKE g.t1; INSERT INTO p.t1 SELECT * FROM g.t1;
SQL
}

# write_routine NAME SCHEMA TABLE: a procedure that commits n transactions, each an update of an indexed column, one
# of text, a delete and an insert: what sysbench's oltp_write_only does. Ids of one caller are disjoint from others',
# as transactions of different users mostly are.
write_routine() {
  sql primary <<SQL
DELIMITER //
CREATE PROCEDURE p.$1(caller INT, callers INT, n INT)
BEGIN
  DECLARE i INT DEFAULT 0;
  DECLARE at INT;
  WHILE i < n DO
    SET at = 1 + callers * ((i * 7919) MOD (25000 DIV callers)) + caller;
    START TRANSACTION;
    UPDATE $2.$3 SET k = k + 1 WHERE id = at;
    UPDATE $2.$3 SET c = CONCAT(SHA2(i, 224), SUBSTR(c, 57)) WHERE id = at;
    DELETE FROM $2.$3 WHERE id = at;
    INSERT INTO $2.$3 (id, k, c, pad) VALUES (at, i, REPEAT(SHA2(i, 224), 2), SHA2(i, 224));
    COMMIT;
    SET i = i + 1;
  END WHILE;
END//
SQL
}

# in_parallel ROUTINE COUNT: by 8 callers.
in_parallel() {
  local caller pids=()
  for caller in 0 1 2 3 4 5 6 7; do
    sql primary -e "CALL p.$1($caller, 8, $(($2 / 8)))" &
    pids+=($!)
  done
  wait "${pids[@]}"
}

workload_oltp() {
  title="$transactions small transactions"
  described="Two updates, a delete and an insert each, by 8 callers on 4 tables of 25,000 rows of 200 bytes."
  note "writing: $title"
  make_tables
  local n
  for n in 1 2 3 4; do write_routine "oltp$n" g "t$n"; done
  copy_base
  local pids=()
  for n in 1 2 3 4; do in_parallel "oltp$n" $((transactions / 4)) & pids+=($!); done
  wait "${pids[@]}"
  tables='g.t1, g.t2, g.t3, g.t4' unit='transactions' units=$transactions mini_filter=('--replicate-do-db=g')
  end_workload
  described+=" $((binlog_bytes >> 20)) MiB of binlog."
}

workload_large() {
  title="1 transaction of $rows rows"
  note "writing: $title"
  make_tables
  copy_base
  sql primary g -e "SET SESSION cte_max_recursion_depth = $rows; INSERT INTO g.t1 (k, c, pad)
    WITH RECURSIVE s AS (SELECT 1 n UNION ALL SELECT n + 1 FROM s WHERE n < $rows) SELECT n, SHA2(n, 224), SHA2(n + 1, 224) FROM s"
  tables='g.t1' unit='rows' units=$rows mini_filter=('--replicate-do-db=g')
  end_workload
  described="INSERT ... SELECT into a table with a secondary index. $((binlog_bytes >> 20)) MiB of binlog."
}

workload_filtered10() { workload_filtered 1000; }
workload_filtered001() { workload_filtered 1; }

# workload_filtered [N]: of 10,000 transactions N travel (default 100: 1 %).
workload_filtered() {
  local kept=$((transactions * ${1:-100} / 10000))
  title="$transactions transactions, of which $(awk -v n="${1:-100}" 'BEGIN { print n / 100 }') % travel"
  note "writing: $title"
  make_tables
  write_routine ours g t1
  write_routine others p t1
  copy_base
  local pids=()
  in_parallel others $((transactions - kept)) & pids+=($!)
  in_parallel ours "$kept" & pids+=($!)
  wait "${pids[@]}"
  tables='g.t1' unit='transactions' units=$transactions mini_filter=('--replicate-do-db=g')
  end_workload
  described="As the small transactions; the others are in another schema. $((binlog_bytes >> 20)) MiB of binlog."
}

workload_wide() {
  local n columns='' sets=''
  title="$((transactions / 40)) transactions of 20 wide rows"
  note "writing: $title"
  make_tables
  for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
    columns+=", i$n INT NOT NULL, d$n DATETIME(6), m$n DECIMAL(20,6), v$n VARCHAR(100)"
    sets+=", i$n, '2026-01-01' + INTERVAL i$n SECOND, i$n / 7, SHA2(i$n, 384)"
  done
  sql primary g <<SQL
CREATE TABLE t5 (id INT PRIMARY KEY$columns);
SET SESSION cte_max_recursion_depth = 100000;
INSERT INTO t5 WITH RECURSIVE s AS (SELECT 1 n UNION ALL SELECT n + 1 FROM s WHERE n < 4000)
  SELECT n$(sed -E 's/\<i[0-9]+\>/n/g' <<<"$sets") FROM s;
DELIMITER //
CREATE PROCEDURE p.wide(caller INT, callers INT, n INT)
BEGIN
  DECLARE i INT DEFAULT 0;
  WHILE i < n DO
    UPDATE g.t5 SET i1 = i1 + 1, v16 = SHA2(i, 384), m8 = i
      WHERE id BETWEEN 1 + 500 * caller + 20 * (i MOD 25) AND 20 + 500 * caller + 20 * (i MOD 25);
    SET i = i + 1;
  END WHILE;
END//
SQL
  copy_base
  in_parallel wide $((transactions / 40))
  set_of_tables='g.t5' tables='g.t5' unit='rows' units=$((transactions / 2)) mini_filter=()
  end_workload
  described="Updates of rows of 65 columns and 2 KiB, by 8 callers. $((binlog_bytes >> 20)) MiB of binlog."
}

workload_keyless() {
  title="$((transactions / 5)) small transactions on tables without any key"
  note "writing: $title"
  make_tables
  local n pids=()
  for n in 1 2 3 4; do
    sql primary g -e "CREATE TABLE k$n (id INT NOT NULL, k INT NOT NULL, c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL);
      INSERT INTO k$n SELECT * FROM t$n WHERE id <= 400"
    sql primary <<SQL
DELIMITER //
CREATE PROCEDURE p.keyless$n(caller INT, callers INT, n INT)
BEGIN
  DECLARE i INT DEFAULT 0;
  DECLARE at INT;
  WHILE i < n DO
    SET at = 1 + (i * 8 + caller) MOD 400;
    START TRANSACTION;
    UPDATE g.k$n SET k = k + 1 WHERE id = at;
    DELETE FROM g.k$n WHERE id = at;
    INSERT INTO g.k$n VALUES (at, i, REPEAT(SHA2(i, 224), 2), SHA2(i, 224));
    COMMIT;
    SET i = i + 1;
  END WHILE;
END//
SQL
  done
  copy_base
  for n in 1 2 3 4; do
    # One caller a table: without a key, each locks every row.
    sql primary -e "CALL p.keyless$n(0, 1, $((transactions / 20)))" &
    pids+=($!)
  done
  wait "${pids[@]}"
  set_of_tables='g.k1 g.k2 g.k3 g.k4' tables='g.k1, g.k2, g.k3, g.k4' unit='transactions' units=$((transactions / 5)) mini_filter=()
  end_workload
  described="An update, a delete and an insert each, on 4 tables of 400 rows. $((binlog_bytes >> 20)) MiB of binlog."
}

workload_many() {
  title="$transactions small transactions on 32 tables"
  note "writing: $title"
  make_tables
  local n pids=()
  for n in $(seq 1 32); do
    sql primary g -e "CREATE TABLE m$n LIKE t1; INSERT INTO m$n SELECT * FROM t1 WHERE id <= 8000"
  done
  for n in 1 2 3 4 5 6 7 8; do
    sql primary <<SQL
DELIMITER //
CREATE PROCEDURE p.many$n(caller INT, callers INT, n INT)
BEGIN
  DECLARE i INT DEFAULT 0;
  DECLARE at INT;
  WHILE i < n DO
    SET at = 1 + callers * ((i * 7919) MOD (8000 DIV callers)) + caller;
    START TRANSACTION;
    UPDATE g.m$n SET k = k + 1 WHERE id = at;
    UPDATE g.m$((n + 8)) SET k = k + 1 WHERE id = at;
    UPDATE g.m$((n + 16)) SET c = CONCAT(SHA2(i, 224), SUBSTR(c, 57)) WHERE id = at;
    UPDATE g.m$((n + 24)) SET c = CONCAT(SHA2(i, 224), SUBSTR(c, 57)) WHERE id = at;
    COMMIT;
    SET i = i + 1;
  END WHILE;
END//
SQL
  done
  copy_base
  for n in 1 2 3 4 5 6 7 8; do
    sql primary -e "CALL p.many$n($n - 1, 8, $((transactions / 8)))" &
    pids+=($!)
  done
  wait "${pids[@]}"
  set_of_tables=$(seq -f 'g.m%.0f' 1 32 | tr '\n' ' ') tables=$(seq -s ', ' -f 'g.m%.0f' 1 32)
  unit='transactions' units=$transactions mini_filter=()
  end_workload
  described="Four updates each, in 4 of the tables, by 8 callers. $((binlog_bytes >> 20)) MiB of binlog."
}
