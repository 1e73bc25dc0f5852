//! Generated dimension rows: places, categories, brands, goods, users.

use crate::random::Random;
use anyhow::Result;
use tidemark_tests::mysql::{Session, literal};

const TRADEMARKS: u64 = 30;
const SPUS: u64 = 120;
const SKUS: u64 = 600;
const CATEGORY2_EACH: u64 = 6;
const CATEGORY3_EACH: u64 = 5;
const USERS: u64 = 2_000;
/// Rows of one INSERT.
const ROWS_MAX: usize = 500;
/// Before every order, so that no indicator of today counts these rows.
const CREATED: &str = "'2024-01-01 00:00:00'";

/// Region, and its provinces with their ISO 3166-2 codes.
const PLACES: [(&str, &str); 7] = [
    ("华北", "北京 BJ 天津 TJ 山西 SX 内蒙古 NM 河北 HE"),
    ("华东", "上海 SH 江苏 JS 浙江 ZJ 安徽 AH 福建 FJ 江西 JX 山东 SD 台湾 TW"),
    ("东北", "黑龙江 HL 吉林 JL 辽宁 LN"),
    ("华中", "河南 HA 湖北 HB 湖南 HN"),
    ("华南", "广东 GD 广西 GX 海南 HI 香港 HK 澳门 MO"),
    ("西南", "重庆 CQ 四川 SC 贵州 GZ 云南 YN 西藏 XZ"),
    ("西北", "陕西 SN 甘肃 GS 青海 QH 宁夏 NX 新疆 XJ"),
];

const CATEGORIES: [&str; 17] = [
    "图书",
    "手机",
    "家用电器",
    "数码",
    "家居家装",
    "电脑办公",
    "厨具",
    "个护化妆",
    "服饰内衣",
    "钟表",
    "鞋靴",
    "母婴",
    "礼品箱包",
    "食品饮料",
    "珠宝",
    "汽车用品",
    "运动健康",
];

/// Codes of order status and payment, as the course numbers them.
const CODES: [(&str, &str); 9] = [
    ("1001", "未支付"),
    ("1002", "已支付"),
    ("1003", "已取消"),
    ("1004", "已完成"),
    ("1005", "退款中"),
    ("1006", "退款完成"),
    ("1101", "支付宝"),
    ("1102", "微信"),
    ("1103", "银联"),
];

/// Fills the dimension tables of an empty shop.
pub(super) fn fill(session: &mut Session, seed: u64) -> Result<()> {
    let mut random = Random::new(seed, 0);
    fill_places(session)?;
    fill_categories(session)?;
    let codes =
        CODES.iter().map(|(code, name)| format!("('{code}', '{name}', LEFT('{code}', 2), {CREATED})"));
    insert(session, "base_dic (dic_code, dic_name, parent_code, create_time)", codes)?;
    let trademarks = (1..=TRADEMARKS).map(|id| format!("({id}, '品牌 {id}', '/logo/{id}.png', {CREATED})"));
    insert(session, "base_trademark (id, tm_name, logo_url, create_time)", trademarks)?;
    fill_goods(session, &mut random)?;
    fill_users(session, &mut random)
}

fn fill_places(session: &mut Session) -> Result<()> {
    let (mut regions, mut provinces) = (Vec::new(), Vec::new());
    for (region, (name, list)) in (1..).zip(PLACES) {
        regions.push(format!("('{region}', '{name}', {CREATED})"));
        let mut words = list.split(' ');
        while let (Some(province), Some(code)) = (words.next(), words.next()) {
            let id = provinces.len() + 1;
            provinces.push(format!("({id}, '{province}', '{region}', 'CN-{code}', {CREATED})"));
        }
    }
    insert(session, "base_region (id, region_name, create_time)", regions.into_iter())?;
    insert(session, "base_province (id, name, region_id, iso_3166_2, create_time)", provinces.into_iter())
}

fn fill_categories(session: &mut Session) -> Result<()> {
    let (mut seconds, mut thirds) = (Vec::new(), Vec::new());
    for (first, name) in (1..).zip(CATEGORIES) {
        for _ in 0..CATEGORY2_EACH {
            let second = seconds.len() + 1;
            seconds.push(format!("({second}, '{name} {second}', {first}, {CREATED})"));
            for _ in 0..CATEGORY3_EACH {
                let third = thirds.len() + 1;
                thirds.push(format!("({third}, '{name} {second} {third}', {second}, {CREATED})"));
            }
        }
    }
    let firsts = (1..).zip(CATEGORIES).map(|(id, name)| format!("({id}, '{name}', {CREATED})"));
    insert(session, "base_category1 (id, name, create_time)", firsts)?;
    insert(session, "base_category2 (id, name, category1_id, create_time)", seconds.into_iter())?;
    insert(session, "base_category3 (id, name, category2_id, create_time)", thirds.into_iter())
}

fn fill_goods(session: &mut Session, random: &mut Random) -> Result<()> {
    let category3s = CATEGORIES.len() as u64 * CATEGORY2_EACH * CATEGORY3_EACH;
    let (mut spus, mut skus, mut parents) = (Vec::new(), Vec::new(), Vec::new());
    for id in 1..=SPUS {
        let (category, trademark) = (random.between(1, category3s), random.between(1, TRADEMARKS));
        parents.push((id, category, trademark));
        spus.push(format!("({id}, 'spu {id}', '商品 {id}', {category}, {trademark}, {CREATED})"));
    }
    for id in 1..=SKUS {
        let (spu, category, trademark) = random.pick(&parents).unwrap_or((1, 1, 1));
        let (price, grams) = (random.between(10, 9_999), random.between(1, 99));
        // Quotes and backslashes, so that nothing on the way may lose them.
        let name = literal(&format!("商品 {id} 13\" \\ O'Neil"));
        skus.push(format!(
            "({id}, {spu}, {price}, {name}, '说明 {id}', 0.{grams:02}, {trademark}, {category}, 1, {CREATED})"
        ));
    }
    insert(
        session,
        "spu_info (id, spu_name, description, category3_id, tm_id, create_time)",
        spus.into_iter(),
    )?;
    let columns = "id, spu_id, price, sku_name, sku_desc, weight, tm_id, category3_id, is_sale, create_time";
    insert(session, &format!("sku_info ({columns})"), skus.into_iter())
}

fn fill_users(session: &mut Session, random: &mut Random) -> Result<()> {
    let mut users = Vec::new();
    for id in 1..=USERS {
        let (level, year) = (random.between(1, 3), random.between(1950, 2008));
        let gender = random.pick(&["'M'", "'F'", "NULL"]).unwrap_or("NULL");
        users
            .push(format!("({id}, 'user{id}', '用户 {id}', '{level}', '{year}-01-31', {gender}, {CREATED})"));
    }
    let columns = "id, login_name, name, user_level, birthday, gender, create_time";
    insert(session, &format!("user_info ({columns})"), users.into_iter())
}

fn insert(session: &mut Session, target: &str, rows: impl Iterator<Item = String>) -> Result<()> {
    let rows: Vec<String> = rows.collect();
    for chunk in rows.chunks(ROWS_MAX) {
        session.exec(&format!("INSERT INTO {target} VALUES {}", chunk.join(", ")))?;
    }
    Ok(())
}
