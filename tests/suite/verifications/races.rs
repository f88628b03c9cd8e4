//! Requests about one recipient that arrive at the same time.

use std::collections::BTreeSet;

use super::{Gateway, NUMBER};
use crate::races::{Request, send_at_once, split_outcomes};
use crate::world::{World, on_every_database};

on_every_database! {
    async fn exactly_one_of_many_right_checks_approves(world: World) {
        let gateway = Gateway::new(world).await;
        let (_, code) = gateway.started().await;
        let path = format!("/v2/Services/{}/VerificationCheck", gateway.service);
        let form = [("To", NUMBER), ("Code", code.as_str())];
        let server = &gateway.world.server;
        let request = |_| Request::of_backend(server, "POST", &path, &form);
        let (approved, refused) = split_outcomes(&send_at_once((0..40).map(request).collect()).await);
        assert_eq!(approved.len(), 1, "{refused:?}");
        assert_eq!(approved[0]["status"], "approved");
        assert!(refused.iter().all(|refusal| *refusal == (404, 20404)), "{refused:?}");
    }
}

on_every_database! {
    async fn codes_requested_at_once_belong_to_one_verification(world: World) {
        let gateway = Gateway::new(world).await;
        let (path, form) = (gateway.path(), [("To", NUMBER), ("Channel", "sms")]);
        let other = gateway.world.database.as_ref().map(|_| gateway.world.another_server(&[]));
        let request = |number: usize| {
            let request = Request::of_backend(&gateway.world.server, "POST", &path, &form);
            match &other {
                Some(other) if number.is_multiple_of(2) => request.at(other),
                _ => request,
            }
        };
        let (sent, refused) = split_outcomes(&send_at_once((0..30).map(request).collect()).await);
        assert_eq!(sent.len(), 5, "{refused:?}");
        assert!(refused.iter().all(|refusal| *refusal == (429, 60203)), "{refused:?}");
        let sids: BTreeSet<_> = sent.iter().map(|verification| verification["sid"].to_string()).collect();
        assert_eq!(sids.len(), 1);
        gateway.message(5).await;
        let codes = gateway.receiver.calls().into_iter().map(|call| {
            let message: serde_json::Value = serde_json::from_slice(&call.bytes()).unwrap();
            message["code"].to_string()
        });
        assert_eq!(codes.collect::<BTreeSet<_>>().len(), 1);
    }
}

on_every_database! {
    async fn only_five_of_many_wrong_checks_are_counted(world: World) {
        let gateway = Gateway::new(world).await;
        let (_, code) = gateway.started().await;
        let path = format!("/v2/Services/{}/VerificationCheck", gateway.service);
        let wrong = crate::verifications::wrong(&code);
        let form = [("To", NUMBER), ("Code", wrong.as_str())];
        let server = &gateway.world.server;
        let request = |_| Request::of_backend(server, "POST", &path, &form);
        let (counted, refused) = split_outcomes(&send_at_once((0..40).map(request).collect()).await);
        assert_eq!(counted.len(), 5);
        assert!(refused.iter().all(|refusal| *refusal == (429, 60202)), "{refused:?}");
        let reached = |found: &&serde_json::Value| found["status"] == "max_attempts_reached";
        assert_eq!(counted.iter().filter(reached).count(), 1);
    }
}
