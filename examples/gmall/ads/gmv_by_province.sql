-- GMV of a day by province, under the province's newest name, the greatest first.
-- param date Date = today
SELECT
  province_id,
  argMax(province_name, window_start) AS province,
  sum(order_amount) AS gmv,
  sum(order_count) AS orders
FROM dws_trade_order_window
WHERE window_start >= toDateTime({date:Date}, 'UTC')
  AND window_start < toDateTime({date:Date} + 1, 'UTC')
GROUP BY province_id
ORDER BY gmv DESC, province_id
