-- The categories of a day that sold most, by amount.
-- param date Date = today
-- param limit Integer = 10
SELECT
  category3_id,
  argMax(category3_name, window_start) AS category,
  sum(order_amount) AS amount,
  sum(line_count) AS lines
FROM dws_trade_category_window
WHERE window_start >= toDateTime({date:Date}, 'UTC')
  AND window_start < toDateTime({date:Date} + 1, 'UTC')
GROUP BY category3_id
ORDER BY amount DESC, category3_id
LIMIT {limit:Integer}
