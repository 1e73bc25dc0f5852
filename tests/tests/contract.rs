//! The store contract on every store.
//!
//! HBase needs its gateway: `dev/stack up hbase`.

use dimsvc::store::{EmbeddedStore, HbaseStore, Store, StoreError, memory::MemoryStore};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
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
    let tables = Tables::new("contract");
    contract::run(Opening::Shared, || Arc::new(HbaseStore::open(&tables.config).unwrap()));
}

#[test]
fn another_number_of_salt_buckets_is_refused_with_what_to_set() {
    let tables = Tables::new("salt");
    HbaseStore::open(&Hbase { salt_buckets: 8, ..tables.config.clone() }).unwrap();

    let refused = HbaseStore::open(&Hbase { salt_buckets: 9, ..tables.config.clone() }).err().unwrap();

    assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
    assert!(refused.to_string().contains("salt_buckets = 8"), "{refused}");
    HbaseStore::open(&Hbase { salt_buckets: 8, ..tables.config.clone() }).unwrap();
}

#[test]
fn a_gateway_that_closes_connections_costs_no_call() {
    let tables = Tables::new("closed");
    let gateway = Proxy::start(&tables.config.address);
    let store =
        HbaseStore::open(&Hbase { address: gateway.address.clone(), ..tables.config.clone() }).unwrap();
    let opened = gateway.connections();

    gateway.close_all();

    assert_eq!(store.load_cell("none").unwrap(), None);
    assert!(store.compare_and_set_cell("new", None, b"1").unwrap());
    assert!(gateway.connections() > opened, "the calls went over a new connection");
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
    fn new(test: &str) -> Self {
        let address = Stack::with(&["hbase"]).unwrap().hbase;
        let namespace = format!("t_{test}_{}", std::process::id());
        hbase::drop_tables(&address, &namespace).unwrap();
        // Eight instances make five tables at once: slow on a machine under load.
        Self { config: Hbase { address, namespace, timeout_ms: 60_000, ..Hbase::default() } }
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        if let Err(error) = hbase::drop_tables(&self.config.address, &self.config.namespace) {
            eprintln!("tables of {} are left: {error:#}", self.config.namespace);
        }
    }
}

/// Passes bytes on to the gateway, and can close all that it has open.
struct Proxy {
    address: String,
    opened: Arc<AtomicUsize>,
    sockets: Arc<std::sync::Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap().to_string(),
            opened: Arc::default(),
            sockets: Arc::default(),
        };
        let (target, opened, sockets) =
            (target.to_owned(), Arc::clone(&proxy.opened), Arc::clone(&proxy.sockets));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&target).unwrap());
                opened.fetch_add(1, Ordering::SeqCst);
                sockets.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    thread::spawn(move || pass_on(from, to));
                }
            }
        });
        proxy
    }

    fn connections(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    fn close_all(&self) {
        for socket in self.sockets.lock().unwrap().drain(..) {
            // One that the peer has closed already cannot be shut down.
            socket.shutdown(std::net::Shutdown::Both).ok();
        }
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 4_096];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..bytes]).is_err() {
            return;
        }
    }
}
