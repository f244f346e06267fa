-- Waiting in SQL until this region shows a transaction of the source, as `tablecast wait` does. Run this once, as a DBA,
-- on the region's own server, with the mysql client; its replicas get it too. It writes nothing but these two routines.
--
--   CALL tablecast.wait_for_source_gtid(STREAM, GTID_SET, SECONDS)
--     one row, one column `result`:  0  the region shows all of the set (what does not travel counts as shown)
--                                    1  the time is over
--                                    2  as 0, but a table of the stream is in quarantine here and may lack a change
--   SELECT tablecast.shows_source_gtid(STREAM, GTID_SET)
--     the same without waiting; inside a transaction, as of its snapshot.
--
-- STREAM is `stream` in the config; NULL: the only one here. GTID_SET is @@gtid_executed of the source, or what the
-- session tracker gives for one commit. On MySQL 8.0 it must not hold tagged GTIDs.
--
-- SQL SECURITY INVOKER, so that nobody gets a definer's rights by them. Who is to use them needs, for example:
--   GRANT SELECT (name, covered) ON tablecast.position TO app;
--   GRANT SELECT (name) ON tablecast.quarantine TO app;
--   GRANT EXECUTE ON PROCEDURE tablecast.wait_for_source_gtid TO app;
--   GRANT EXECUTE ON FUNCTION tablecast.shows_source_gtid TO app;

DELIMITER //

DROP FUNCTION IF EXISTS tablecast.shows_source_gtid //
CREATE FUNCTION tablecast.shows_source_gtid(in_stream VARCHAR(255) CHARACTER SET utf8mb4,
    in_gtids LONGTEXT CHARACTER SET utf8mb4) RETURNS INT
  READS SQL DATA SQL SECURITY INVOKER
  COMMENT '0: shown, 1: not yet, 2: shown, but a table is in quarantine'
BEGIN
  DECLARE found INT;
  DECLARE of_stream VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
  DECLARE shown INT;
  SELECT COUNT(*), MIN(name), MIN(GTID_SUBSET(in_gtids, covered)) INTO found, of_stream, shown
    FROM tablecast.position
    WHERE in_stream IS NULL OR name = in_stream COLLATE utf8mb4_bin;
  IF found > 1 THEN
    SIGNAL SQLSTATE '45000'
      SET MESSAGE_TEXT = 'several streams are applied here: name the one that is meant';
  END IF;
  IF found = 0 THEN
    SIGNAL SQLSTATE '45000'
      SET MESSAGE_TEXT = 'tablecast.position has no such stream: has tablecast apply run here?';
  END IF;
  IF in_gtids IS NULL THEN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the GTID set is NULL';
  END IF;
  IF NOT shown THEN
    RETURN 1;
  END IF;
  IF EXISTS (SELECT 1 FROM tablecast.quarantine WHERE name = of_stream) THEN
    RETURN 2;
  END IF;
  RETURN 0;
END //

DROP PROCEDURE IF EXISTS tablecast.wait_for_source_gtid //
CREATE PROCEDURE tablecast.wait_for_source_gtid(IN in_stream VARCHAR(255) CHARACTER SET utf8mb4,
    IN in_gtids LONGTEXT CHARACTER SET utf8mb4, IN in_seconds DOUBLE)
  READS SQL DATA SQL SECURITY INVOKER
  COMMENT '0: shown, 1: the time is over, 2: shown, but a table is in quarantine'
BEGIN
  -- A year at most: beyond what a DATETIME holds it would be NULL, and never over.
  DECLARE until DATETIME(6) DEFAULT SYSDATE(6) + INTERVAL LEAST(GREATEST(COALESCE(in_seconds, 0), 0), 31536000) SECOND;
  DECLARE pause DOUBLE DEFAULT 0.005;
  DECLARE found INT;
  -- 1568: a transaction is open. It would go on seeing the region as it was when it began.
  DECLARE EXIT HANDLER FOR 1568
    SIGNAL SQLSTATE '25001' SET MESSAGE_TEXT = 'a transaction is open in this session: COMMIT, then wait, then read';
  look: LOOP
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET found = tablecast.shows_source_gtid(in_stream, in_gtids);
    -- With autocommit off the look has begun a transaction: what is read next must not be as old as this one.
    COMMIT AND NO CHAIN NO RELEASE;
    IF found <> 1 OR SYSDATE(6) >= until THEN
      LEAVE look;
    END IF;
    DO SLEEP(pause);
    SET pause = LEAST(pause * 1.5, 0.1);
  END LOOP;
  SELECT found AS result;
END //

DELIMITER ;
