//! Workloads that the benchmarks share: keys with a realistic skew, rows of a
//! realistic size. Criterion's files are beside this one, the gRPC load
//! generator is in `load/`.

use bytes::Bytes;
use tidemark_proto::{
    Position,
    envelope::{EnvelopeWriter, Meta, RowKind},
};

/// Keys that are asked by a Zipf law (exponent 0.99, as YCSB's), from a seed.
///
/// By rejection inversion (Hörmann and Derflinger, 1996): constant time and
/// memory for any number of keys.
#[derive(Clone, Debug)]
pub struct Zipf {
    count: f64,
    exponent: f64,
    at_half: f64,
    at_end: f64,
    state: u64,
}

impl Zipf {
    /// Draws from `0..count`.
    pub fn new(count: u64, seed: u64) -> Self {
        let (count, exponent) = (count as f64, 0.99);
        let at_half = integral(1.5, exponent) - 1.0;
        Self { count, exponent, at_half, at_end: integral(count + 0.5, exponent), state: seed | 1 }
    }

    /// The next key.
    pub fn draw(&mut self) -> u64 {
        loop {
            let u = self.at_end + self.uniform() * (self.at_half - self.at_end);
            let x = inverse(u, self.exponent);
            let k = x.round().clamp(1.0, self.count);
            if k - x <= 0.5 || u >= integral(k + 0.5, self.exponent) - k.powf(-self.exponent) {
                return k as u64 - 1;
            }
        }
    }

    /// In 0..1, by xorshift64*.
    fn uniform(&mut self) -> f64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn integral(x: f64, exponent: f64) -> f64 {
    (x.powf(1.0 - exponent) - 1.0) / (1.0 - exponent)
}

fn inverse(u: f64, exponent: f64) -> f64 {
    (1.0 + u * (1.0 - exponent)).powf(1.0 / (1.0 - exponent))
}

/// The canonical key of an id.
pub fn key(id: u64) -> Bytes {
    format!("[{id}]").into()
}

/// A dimension row of about 200 bytes.
pub fn row(id: u64) -> Bytes {
    format!(
        "{{\"id\":{id},\"sku_name\":\"A product with a name of usual length {id}\",\"price\":{}.{:02},\
         \"spu_id\":{},\"tm_id\":{},\"category3_id\":{},\"is_sale\":1,\"create_time\":\"2026-01-02 03:04:05\"}}",
        id % 9_000,
        id % 100,
        id / 4,
        id % 50,
        id % 1_000
    )
    .into()
}

/// An ordered line: which rows it refers to, and its transaction.
#[derive(Clone, Copy, Debug)]
pub struct OrderDetail {
    pub id: u64,
    pub order: u64,
    pub sku: u64,
    pub user: u64,
    pub begin: Position,
    pub end: Position,
    /// The last row of its transaction.
    pub commit: bool,
}

/// Appends the change message of an inserted `order_detail` row of `database`:
/// about 480 bytes, as `ods` writes it.
pub fn write_order_detail(out: &mut Vec<u8>, database: &str, line: &OrderDetail) {
    let position = format!("binlog.{:06}:{}", line.end.file(), line.end.offset());
    let meta = Meta {
        database,
        table: "order_detail",
        kind: RowKind::Insert,
        ts: 1_767_323_045,
        xid: Some(line.order),
        commit: line.commit,
        position: Some(&position),
        gtid: None,
        transaction: Some((line.begin, line.end)),
        again: false,
    };
    let price = format!("{}.{:02}", line.sku % 9_000, line.sku % 100);
    let mut writer = EnvelopeWriter::begin(out, &meta);
    writer.column("id", &line.id.to_string());
    writer.column("order_id", &line.order.to_string());
    writer.column("sku_id", &line.sku.to_string());
    writer.column("user_id", &line.user.to_string());
    writer.column("sku_name", &format!("\"A product with a name of usual length {}\"", line.sku));
    writer.column("img_url", &format!("\"http://img.example/{}.jpg\"", line.sku));
    writer.column("order_price", &price);
    writer.column("sku_num", "1");
    writer.column("create_time", "\"2026-01-02 03:04:05\"");
    writer.column("split_total_amount", &price);
    writer.column("split_activity_amount", "null");
    writer.column("split_coupon_amount", "0.00");
    writer.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_within_range_and_skewed() {
        let mut zipf = Zipf::new(1_000, 42);
        let draws: Vec<u64> = (0..100_000).map(|_| zipf.draw()).collect();
        assert!(draws.iter().all(|key| *key < 1_000));
        let hottest = draws.iter().filter(|key| **key == 0).count();
        let last = draws.iter().filter(|key| **key == 999).count();
        assert!(hottest > 50 * last.max(1), "{hottest} against {last}");
    }
}
