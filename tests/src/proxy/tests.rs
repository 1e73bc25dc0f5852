//! The proxy between a client and a server that sends back what it gets.

use super::*;
use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for bytes to come if they were to come at all.
const SILENCE: Duration = Duration::from_millis(100);

/// The address of an echo server that lives as long as the tasks.
async fn echo(tasks: &TaskTracker) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let inner = tasks.clone();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            inner.spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.ok();
            });
        }
    });
    address
}

async fn start() -> Proxy {
    Proxy::start(&echo(&TaskTracker::new()).await).await.unwrap()
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// Sends and reads back as much.
async fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut back = vec![0; bytes.len()];
    let talk = async {
        stream.write_all(bytes).await?;
        stream.read_exact(&mut back).await
    };
    timeout(PATIENCE, talk).await.expect("an answer or a reset comes in time")?;
    Ok(back)
}

#[tokio::test]
async fn bytes_pass_both_ways_and_are_counted() {
    let proxy = start().await;
    let mut stream = connect(&proxy).await;
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    let (mut read, mut write) = stream.split();
    let mut back = vec![0; bytes.len()];
    let (sent, received) = tokio::join!(write.write_all(&bytes), read.read_exact(&mut back));
    sent.unwrap();
    received.unwrap();
    assert!(back == bytes, "the bytes came back changed");
    let traffic = proxy.traffic();
    assert_eq!((traffic.connections, traffic.sent), (1, 1_000_000), "{traffic}");
    proxy.stop().await;
}

#[tokio::test]
async fn an_end_is_handed_on_after_the_last_byte() {
    let proxy = start().await;
    let mut stream = connect(&proxy).await;
    stream.write_all(b"last words").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut all)).await.unwrap().unwrap();
    assert_eq!(all, b"last words");
}

#[tokio::test]
async fn a_cut_resets_connections_and_refuses_new_ones() {
    let proxy = start().await;
    let mut old = connect(&proxy).await;
    exchange(&mut old, b"before").await.unwrap();
    proxy.set(Mode::Cut);
    assert_eq!(exchange(&mut old, b"after").await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(exchange(&mut connect(&proxy).await, b"new").await.is_err());
    proxy.set(Mode::Pass);
    assert_eq!(exchange(&mut connect(&proxy).await, b"again").await.unwrap(), b"again");
}

#[tokio::test]
async fn a_cut_that_is_over_at_once_still_resets() {
    let proxy = start().await;
    let mut old = connect(&proxy).await;
    exchange(&mut old, b"before").await.unwrap();
    proxy.cut_once();
    assert!(exchange(&mut old, b"after").await.is_err());
    assert_eq!(exchange(&mut connect(&proxy).await, b"new").await.unwrap(), b"new");
}

#[tokio::test]
async fn a_black_hole_swallows_and_its_end_resets() {
    let proxy = start().await;
    let (mut asks, mut idles) = (connect(&proxy).await, connect(&proxy).await);
    exchange(&mut asks, b"before").await.unwrap();
    exchange(&mut idles, b"before").await.unwrap();
    proxy.set(Mode::BlackHole);
    asks.write_all(b"lost").await.unwrap();
    assert!(timeout(SILENCE, asks.read_u8()).await.is_err(), "something came back");
    let mut new = connect(&proxy).await;
    new.write_all(b"lost too").await.unwrap();
    assert!(timeout(SILENCE, new.read_u8()).await.is_err(), "something came back");
    proxy.set(Mode::Pass);
    assert!(exchange(&mut asks, b"a stream with a hole").await.is_err());
    assert!(exchange(&mut new, b"a stream with a hole").await.is_err());
    assert_eq!(exchange(&mut idles, b"lost nothing").await.unwrap(), b"lost nothing");
}

#[tokio::test]
async fn a_delay_is_at_least_its_latency_and_keeps_the_order() {
    let proxy = start().await;
    let mut stream = connect(&proxy).await;
    let latency = Duration::from_millis(30);
    proxy.set(Mode::Delay { latency, jitter: Duration::from_millis(10) });
    let begun = Instant::now();
    assert_eq!(exchange(&mut stream, b"x").await.unwrap(), b"x");
    assert!(begun.elapsed() >= latency * 2, "there and back in {:?}", begun.elapsed());
    for part in 0..100_u8 {
        stream.write_all(&[part]).await.unwrap();
    }
    let mut back = [0; 100];
    timeout(PATIENCE, stream.read_exact(&mut back)).await.unwrap().unwrap();
    assert!(back.is_sorted(), "{back:?}");
}

#[tokio::test]
async fn a_throttled_line_takes_the_time_its_bytes_need() {
    let proxy = start().await;
    let mut stream = connect(&proxy).await;
    proxy.set(Mode::Throttle { bytes_per_second: 100_000 });
    let begun = Instant::now();
    let bytes = vec![7; 20_000];
    assert!(exchange(&mut stream, &bytes).await.unwrap() == bytes);
    assert!(begun.elapsed() >= Duration::from_millis(150), "in {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_stopped_proxy_gives_its_port_back() {
    let proxy = start().await;
    let mut stream = connect(&proxy).await;
    exchange(&mut stream, b"before").await.unwrap();
    let address = proxy.address();
    proxy.stop().await;
    assert!(exchange(&mut stream, b"after").await.is_err());
    TcpListener::bind(&address).await.unwrap();
}

#[tokio::test]
async fn a_service_that_is_down_looks_like_a_reset() {
    let nobody = crate::free_port().unwrap();
    let proxy = Proxy::start(&format!("127.0.0.1:{nobody}")).await.unwrap();
    assert!(exchange(&mut connect(&proxy).await, b"anybody?").await.is_err());
}
