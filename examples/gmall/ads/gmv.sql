-- GMV of a day (what all placed orders are worth) and how many orders there were.
-- param date Date = today
SELECT
  sum(order_amount) AS gmv,
  sum(order_count) AS order_count
FROM dws_trade_order_window
WHERE window_start >= toDateTime({date:Date}, 'UTC')
  AND window_start < toDateTime({date:Date} + 1, 'UTC')
