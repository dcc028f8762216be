//! The task of a connection: sends what is in the outbox, and hands out what arrives.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::sleep;

use super::super::GRACE;
use super::super::answer::Answer;
use super::super::frame::{FrameWriter, Frames, Written};
use super::{Lost, Shared};
use crate::backend::Release;

/// Sends and receives until one of the sides ends the connection.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut frames: Frames<OwnedReadHalf>,
    writer: FrameWriter<OwnedWriteHalf>,
) {
    let send_all = async {
        send(&shared, writer).await;
        // The owner answers what was asked before and ends the connection.
        sleep(2 * GRACE).await;
        Lost::gone(&shared.place)
    };
    let lost = tokio::select! {
        lost = send_all => lost,
        lost = receive(&shared, &mut frames) => lost,
    };
    shared.end(lost);
}

async fn send(shared: &Shared, mut writer: FrameWriter<OwnedWriteHalf>) {
    let mut batch: Vec<Written> = Vec::new();
    while shared.outbox.take(&mut batch).await {
        if let Err(error) = writer.send(&mut batch).await {
            return tracing::debug!(%error, "the local socket takes nothing more");
        }
    }
    writer.shutdown().await;
}

async fn receive(shared: &Arc<Shared>, frames: &mut Frames<OwnedReadHalf>) -> Lost {
    let release: Arc<dyn Release> = shared.clone();
    while let Some(frame) = frames.next().await {
        let read = match frame {
            Ok(frame) => Answer::read(&frame.freeze(), &release).map_err(|error| error.0),
            Err(error) => Err(error.to_string()),
        };
        match read {
            Ok((id, more, answer)) => shared.arrived(id, more, answer),
            Err(error) => return Lost::illegible(&shared.place, &error),
        }
    }
    Lost::gone(&shared.place)
}
