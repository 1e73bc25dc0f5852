//! Rows of one captured event, decoded as the stream decodes them.
//!
//! For benchmarks and for looking at an event that gave trouble: packets in,
//! rows out, without a server.

use super::{StreamError, malformed, tables::Tables};
use crate::change::Table;
use crate::filter::TableFilter;
use crate::rows::Images;
use crate::schema::{Collations, MappedTable};
use mysql_async::binlog::events::{Event as Packet, FormatDescriptionEvent, TableMapEvent};
use mysql_async::binlog::{BinlogVersion, EventType};
use std::sync::Arc;
use tidemark_proto::envelope::RowKind;

/// Of every event since MySQL 5.0.
const HEADER_BYTES: usize = 19;

/// A rows event with the table that its TABLE_MAP event describes.
#[derive(Debug)]
pub struct CapturedRows {
    mapped: Arc<MappedTable>,
    kind: RowKind,
    rows: Packet,
}

impl CapturedRows {
    /// Takes both packets whole, with their headers and without checksums.
    /// `collations` are those of the table's text columns, as rows of
    /// `information_schema.COLLATIONS`: id, name, character set.
    ///
    /// # Errors
    /// When a packet is not of its kind, or the table cannot be followed.
    pub fn try_new(
        table_map: &[u8],
        rows: &[u8],
        collations: impl IntoIterator<Item = (u64, String, String)>,
    ) -> Result<Self, StreamError> {
        let (table_map, rows) = (read(table_map)?, read(rows)?);
        let kind = match rows.header().event_type() {
            Ok(EventType::WRITE_ROWS_EVENT) => RowKind::Insert,
            Ok(EventType::UPDATE_ROWS_EVENT) => RowKind::Update,
            Ok(EventType::DELETE_ROWS_EVENT) => RowKind::Delete,
            _ => return Err(malformed(&rows)("it is not a rows event")),
        };
        let event: TableMapEvent<'_> = table_map.read_event().map_err(malformed(&table_map))?;
        let (database, name) = (event.database_name(), event.table_name());
        let filter = TableFilter::of([(database.into_owned(), name.into_owned())]);
        let mapped = Tables::new(filter, Collations::new(collations)).parse(&event)?;
        let mapped = mapped.ok_or_else(|| malformed(&table_map)("nobody asked for its table"))?;
        Ok(Self { mapped, kind, rows })
    }

    /// The table of the rows.
    pub fn table(&self) -> &Arc<Table> {
        &self.mapped.table
    }

    /// Each row before and after its change.
    ///
    /// # Errors
    /// When the event is cut short or has a value that is not of its column.
    pub fn decode(&self) -> Result<Vec<Images>, StreamError> {
        crate::rows::decode_rows(self.rows.data(), self.kind, &self.mapped)
            .map_err(|fault| StreamError::of_rows(&self.mapped.table, fault))
    }
}

fn read(packet: &[u8]) -> Result<Packet, StreamError> {
    let place = || String::from("a captured event");
    let size = packet.get(9..13).and_then(|size| Some(u32::from_le_bytes(size.try_into().ok()?)));
    // The driver panics over a packet that is shorter than it says.
    if size.is_none_or(|size| size as usize != packet.len() || packet.len() < HEADER_BYTES) {
        return Err(StreamError::Malformed {
            place: place(),
            reason: String::from("its size is not its length"),
        });
    }
    let format = FormatDescriptionEvent::new(BinlogVersion::Version4);
    let failed = |error: std::io::Error| StreamError::Malformed { place: place(), reason: error.to_string() };
    Packet::read(&format, packet).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_packet_is_refused() {
        for packet in [&[][..], &[0; 12], &[0; 19]] {
            assert!(matches!(read(packet), Err(StreamError::Malformed { .. })), "{packet:?}");
        }
    }
}
