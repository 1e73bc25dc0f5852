//! The store contract on every store.
//!
//! HBase needs its gateway: `dev/stack up hbase`.

use anyhow::Result;
use dimsvc::store::{EmbeddedStore, HbaseStore, Store, StoreError, memory::MemoryStore};
use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tidemark_proto::config::{Embedded, Hbase};
use tidemark_tests::{
    contract::{self, Opening},
    hbase,
    stack::Stack,
};

#[test]
fn the_memory_store_keeps_the_contract() {
    let store = Arc::new(MemoryStore::default());
    contract::run(Opening::Shared, || Arc::clone(&store) as Arc<dyn Store>);
}

#[test]
fn the_embedded_store_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let config = Embedded { path, cache_bytes_max: 1 << 20 };
    contract::run(Opening::Exclusive, || Arc::new(EmbeddedStore::open(&config).unwrap()));
}

#[test]
fn the_hbase_store_keeps_the_contract() {
    let tables = Tables::new("contract").unwrap();
    contract::run(Opening::Shared, || Arc::new(HbaseStore::open(&tables.config).unwrap()));
}

#[test]
fn another_number_of_salt_buckets_is_refused_with_what_to_set() {
    let tables = Tables::new("salt").unwrap();
    HbaseStore::open(&Hbase { salt_buckets: 8, ..tables.config.clone() }).unwrap();

    let refused = HbaseStore::open(&Hbase { salt_buckets: 9, ..tables.config.clone() }).err().unwrap();

    assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
    assert!(refused.to_string().contains("salt_buckets = 8"), "{refused}");
    HbaseStore::open(&Hbase { salt_buckets: 8, ..tables.config.clone() }).unwrap();
}

#[test]
fn a_gateway_that_closes_connections_costs_no_call() {
    let tables = Tables::new("closed").unwrap();
    let gateway = Proxy::start(&tables.config.address).unwrap();
    let store =
        HbaseStore::open(&Hbase { address: gateway.address.clone(), ..tables.config.clone() }).unwrap();

    gateway.close_all();
    assert!(store.compare_and_set_cell("new", None, b"1").unwrap());
    gateway.close_all();
    assert_eq!(store.load_cell("new").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn an_answer_that_comes_late_answers_no_other_call() {
    let tables = Tables::new("late").unwrap();
    let store = HbaseStore::open(&tables.config).unwrap();
    store.compare_and_set_cell("first", None, b"1").unwrap();
    store.compare_and_set_cell("second", None, b"2").unwrap();
    let gateway = Proxy::start(&tables.config.address).unwrap();
    let config = Hbase { address: gateway.address.clone(), timeout_ms: 1_500, ..tables.config.clone() };
    let store = HbaseStore::open(&config).unwrap();

    let held = gateway.gate.lock().unwrap();
    let late = store.load_cell("first");
    drop(held);

    assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
    assert_eq!(store.load_cell("second").unwrap().as_deref(), Some(&b"2"[..]));
}

#[test]
fn a_gateway_that_is_not_there_is_named_at_once() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let started = Instant::now();
    let error = HbaseStore::open(&Hbase { address: free.clone(), ..Hbase::default() }).err().unwrap();
    assert!(error.is_retryable() && error.to_string().contains(&free), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
}

#[test]
fn a_gateway_that_never_answers_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config =
        Hbase { address: silent.local_addr().unwrap().to_string(), timeout_ms: 100, ..Hbase::default() };
    let error = HbaseStore::open(&config).err().unwrap();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
}

/// Tables of one test; removed with the value.
struct Tables {
    config: Hbase,
}

impl Tables {
    fn new(test: &str) -> Result<Self> {
        let address = Stack::with(&["hbase"])?.hbase;
        let namespace = format!("t_{test}_{}", std::process::id());
        hbase::drop_tables(&address, &namespace)?;
        // Eight instances make five tables at once: slow on a machine under load.
        Ok(Self { config: Hbase { address, namespace, timeout_ms: 60_000, ..Hbase::default() } })
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        let dropped = hbase::drop_tables(&self.config.address, &self.config.namespace);
        // A second panic would hide why the test failed.
        assert!(thread::panicking() || dropped.is_ok(), "tables are left: {dropped:?}");
    }
}

/// Passes bytes on to the gateway, and can close all that it has open.
struct Proxy {
    address: String,
    open: Arc<Mutex<Vec<TcpStream>>>,
    /// Nothing passes while it is locked.
    gate: Arc<Mutex<()>>,
}

impl Proxy {
    fn start(target: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let proxy = Self { address, open: Arc::default(), gate: Arc::default() };
        let (target, open, gate) = (target.to_owned(), Arc::clone(&proxy.open), Arc::clone(&proxy.gate));
        thread::spawn(move || -> io::Result<()> {
            for client in listener.incoming() {
                let (client, server) = (client?, TcpStream::connect(&target)?);
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to, gate) = (from.try_clone()?, to.try_clone()?, Arc::clone(&gate));
                    thread::spawn(move || pass_on(from, to, &gate));
                }
                open.lock().unwrap_or_else(PoisonError::into_inner).extend([client, server]);
            }
            Ok(())
        });
        Ok(proxy)
    }

    fn close_all(&self) {
        for socket in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // One that its peer has closed already cannot be shut down.
            socket.shutdown(Shutdown::Both).ok();
        }
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, gate: &Mutex<()>) -> io::Result<()> {
    let mut buffer = [0; 4_096];
    loop {
        let bytes = from.read(&mut buffer)?;
        let _open = gate.lock().unwrap_or_else(PoisonError::into_inner);
        match buffer.get(..bytes) {
            None | Some([]) => return Ok(()),
            Some(bytes) => to.write_all(bytes)?,
        }
    }
}
