-- How many users registered on a day.
-- param date Date = today
SELECT sum(user_count) AS users
FROM dws_user_register_window
WHERE window_start >= toDateTime({date:Date}, 'UTC')
  AND window_start < toDateTime({date:Date} + 1, 'UTC')
