-- Registered users. Names and numbers of people stay in the source.
INSERT INTO dwd_user_register
SELECT
  u.id AS user_id,
  u.user_level,
  COALESCE(u.gender, 'unknown') AS gender,
  u.create_time
FROM user_info AS u
WHERE u.row_kind = 'insert';
