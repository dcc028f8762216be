//! TLS: who is trusted, and that nothing is sent to anybody else.

use sandbar::backend::RabbitMqOptions;
use sandbar::value::Setting;
use sandbar_tests::contract::{Outcome, texts};
use sandbar_tests::servers::rabbitmq::RabbitMq;

use super::fixture::{ack, delivered, open_with, options, queue};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_trusted_by_its_certificate() -> Outcome {
    let Some(server) = RabbitMq::start().await else {
        return Ok(());
    };
    let certificate = format!("file:{}", server.certificate().display());
    let trusting = RabbitMqOptions {
        ca: Some(Setting::new(&certificate)),
        ..options(&server.tls_url())
    };
    let opened = open_with(trusting).await?;
    let queue = queue(&opened, "q", "t").await?;
    let mut source = opened.source(&queue).await?;
    opened.broker.send("t", &["1"]).await?;
    let delivery = delivered(&mut source).await?.remove(0);
    assert_eq!(texts(std::slice::from_ref(&delivery)), ["1"]);
    ack(&opened, delivery).await?;
    opened.broker.backend.close().await;

    let strange = open_with(options(&server.tls_url())).await?;
    let refused = strange.broker.send("t", &["2"]).await;
    let error = refused.err().ok_or("it trusts anybody")?.to_string();
    assert!(error.contains("certificate"), "{error}");
    assert!(!error.contains("guest:guest"), "{error}");
    strange.broker.backend.close().await;
    Ok(())
}
