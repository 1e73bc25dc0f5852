-- Registered users, per 10 seconds of registration time.
INSERT INTO dws_user_register_window
SELECT
  window_start,
  window_end,
  gender,
  COUNT(*) AS user_count
FROM TABLE(TUMBLE(TABLE dwd_user_register, DESCRIPTOR(create_time), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, gender;
