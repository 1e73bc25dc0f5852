-- Ordered lines by province, per 10 seconds of order time.
INSERT INTO dws_trade_province_window
SELECT
  window_start,
  window_end,
  province_id,
  province_name,
  region_name,
  SUM(split_total_amount) AS order_amount,
  COUNT(*) AS line_count
FROM TABLE(TUMBLE(TABLE dwd_trade_order_detail, DESCRIPTOR(create_time), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, province_id, province_name, region_name;
