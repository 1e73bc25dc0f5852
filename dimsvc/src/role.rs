//! Which replica writes the store: what this one does, and whom it knows as the
//! writer.

use tokio::sync::watch;

/// What is known of the roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// This process writes the store; otherwise it stands by.
    pub is_writer: bool,
    /// The last process that became the writer, as it names itself.
    pub writer: String,
    /// Counts those processes.
    pub term: u64,
}

/// The standing of this process, with waiters.
#[derive(Debug, Default)]
pub struct Role(watch::Sender<Standing>);

impl Role {
    /// The standing now.
    pub fn standing(&self) -> Standing {
        self.0.borrow().clone()
    }

    /// Whether this process writes the store.
    pub fn is_writer(&self) -> bool {
        self.0.borrow().is_writer
    }

    /// This process has become the writer.
    pub fn take_over(&self, writer: &str, term: u64) {
        self.0.send_replace(Standing { is_writer: true, writer: writer.to_owned(), term });
    }

    /// This process writes no more.
    pub fn step_down(&self) {
        self.0.send_if_modified(|standing| std::mem::take(&mut standing.is_writer));
    }

    /// A standby has read who writes.
    pub fn learn(&self, writer: &str, term: u64) {
        self.0.send_if_modified(|standing| {
            let news = standing.term != term || standing.writer != writer;
            if news {
                *standing = Standing { writer: writer.to_owned(), term, ..*standing };
            }
            news
        });
    }

    /// Waits until this process is the writer, or until it is not.
    ///
    /// # Cancel safety
    /// Holds no state: may be dropped at any time.
    pub async fn becomes(&self, is_writer: bool) {
        let mut standing = self.0.subscribe();
        // The sender is in `self`: it cannot be gone.
        drop(standing.wait_for(|standing| standing.is_writer == is_writer).await);
    }
}
