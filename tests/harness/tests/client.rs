//! The requests that the client puts on the wire.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

use std::time::Duration;

use harness::{Auth, Http, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Returns the bytes that `send` transmits, up to and including `end`. The request is answered with a
/// redirect to an unused port.
async fn wire(end: &str, send: impl AsyncFnOnce(&str)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let receive = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(end.as_bytes()) {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "only got {request:?}");
        }
        let answer = "HTTP/1.1 302 Found\r\nlocation: /nowhere\r\ncontent-length: 8\r\n\r\n{\"a\": 1}";
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    };
    tokio::join!(send(&base), receive).1
}

#[tokio::test]
async fn post_sends_an_encoded_form_and_follows_no_redirect() {
    let request = wire("Z=END", async |base| {
        let http = Http::new(base).auth(Auth::Basic("AC1".to_owned(), "secret".to_owned()));
        let reply = http.post("/v2/Services", &[("Friendly Name", "ä&=+"), ("Z", "END")]).await;
        assert_eq!((reply.status, reply.header("Location")), (302, Some("/nowhere")));
        assert_eq!(reply.json()["a"], 1);
    })
    .await;
    assert!(request.starts_with("POST /v2/Services HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: Basic QUMxOnNlY3JldA==\r\n"), "{request}");
    assert!(request.contains("content-type: application/x-www-form-urlencoded\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\nFriendly+Name=%C3%A4%26%3D%2B&Z=END"), "{request}");
}

#[tokio::test]
async fn get_sends_form_parameters_in_the_query_string() {
    let request = wire("\r\n\r\n", async |base| {
        let http = Http::new(base).auth(Auth::Raw("Bearer x".to_owned()));
        http.get("/v2/Services?Page=0", &[("PageSize", "2 0")]).await;
    })
    .await;
    assert!(request.starts_with("GET /v2/Services?Page=0&PageSize=2+0 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: Bearer x\r\n"), "{request}");
}

#[tokio::test]
async fn absolute_links_and_raw_bodies_are_sent_unchanged() {
    let request = wire("%%END", async |base| {
        Http::new("http://127.0.0.1:1").raw_body(&format!("{base}/x"), "text/odd", "%%END").await;
    })
    .await;
    assert!(
        request.contains("content-type: text/odd\r\n") && !request.contains("authorization"),
        "{request}"
    );
    assert!(request.ends_with("\r\n\r\n%%END"), "{request}");
}

#[tokio::test]
async fn wait_until_returns_once_the_condition_holds() {
    let mut asked = 0;
    let condition = async || {
        asked += 1;
        (asked == 3).then_some("value")
    };
    assert_eq!(
        wait_until("the condition was checked three times", Duration::from_secs(60), condition).await,
        "value"
    );
}

#[tokio::test]
#[should_panic(expected = "this did not happen: pigs fly")]
async fn wait_until_panics_with_the_description_after_the_timeout() {
    wait_until("pigs fly", Duration::from_millis(1), async || None::<()>).await;
}
