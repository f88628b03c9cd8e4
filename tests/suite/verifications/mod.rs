//! One-time codes: verifications and their checks, with a stand-in for the gateway that sends text messages.

mod calls;
mod delivery;
mod events;
mod flow;
mod races;
mod refusals;

use harness::{Answer, Receiver, Reply, wait_until};
use serde_json::Value;

use crate::world::{WAIT_TIMEOUT, World, created};

/// A phone number in Austria, where the default text is German.
const NUMBER: &str = "+4366412345678";

/// A service, and a gateway that accepts its text messages, calls and WhatsApp messages.
struct Gateway {
    world: World,
    service: String,
    receiver: Receiver,
}

impl Gateway {
    /// Adds a gateway to a server. It answers with `answers`, and then accepts everything.
    async fn answering(world: World, answers: impl IntoIterator<Item = Answer>) -> Self {
        let receiver = Receiver::start(answers.into_iter().chain([Answer::ok()]));
        let url = receiver.at("/send");
        let channels = ["--channel", "sms", "--channel", "call", "--channel", "whatsapp"];
        let mut command = vec!["outlet", "create", "--kind", "http", "--name", "Gateway", "--url", &url];
        command.extend(channels);
        world.command(&command);
        let service = world.service().await;
        Self { world, service, receiver }
    }

    async fn new(world: World) -> Self {
        Self::answering(world, []).await
    }

    /// Adds an outlet for mail. The receiver gets its messages too.
    fn add_mail_outlet(&self) {
        let url = self.receiver.at("/mail");
        let outlet =
            ["outlet", "create", "--kind", "http", "--name", "Mail", "--channel", "email", "--url", &url];
        self.world.command(&outlet);
    }

    fn path(&self) -> String {
        format!("/v2/Services/{}/Verifications", self.service)
    }

    /// Sends a code to [`NUMBER`] by text message, with further parameters.
    async fn send(&self, more: &[(&str, &str)]) -> Reply {
        self.send_to(NUMBER, "sms", more).await
    }

    async fn send_to(&self, to: &str, channel: &str, more: &[(&str, &str)]) -> Reply {
        let mut form = vec![("To", to), ("Channel", channel)];
        form.extend_from_slice(more);
        self.world.backend().post(&self.path(), &form).await
    }

    async fn check(&self, form: &[(&str, &str)]) -> Reply {
        let path = format!("/v2/Services/{}/VerificationCheck", self.service);
        self.world.backend().post(&path, form).await
    }

    /// Waits until the gateway has received `count` messages, and returns the last one.
    async fn message(&self, count: usize) -> Value {
        let enough = async || Some(self.receiver.calls()).filter(|calls| calls.len() >= count);
        let calls = wait_until(&format!("{count} messages have come"), WAIT_TIMEOUT, enough).await;
        serde_json::from_slice(&calls[count - 1].bytes()).unwrap()
    }

    /// Waits until the gateway has received a message to `number`, and returns its code.
    async fn code_sent_to(&self, number: &str) -> String {
        let find = async || {
            let messages = self.receiver.calls().into_iter().map(|call| call.bytes().to_vec());
            let mut messages = messages.map(|bytes| serde_json::from_slice::<Value>(&bytes).unwrap());
            messages.find(|message| message["to"] == number)
        };
        let message = wait_until(&format!("a message to {number} has come"), WAIT_TIMEOUT, find).await;
        message["code"].as_str().unwrap().to_owned()
    }

    /// Sends a code, and returns the verification and the code.
    async fn started(&self) -> (Value, String) {
        let before = self.receiver.calls().len();
        let verification = created(&self.send(&[]).await);
        let code = self.message(before + 1).await["code"].as_str().unwrap().to_owned();
        (verification, code)
    }
}

/// Returns a code of the same length that is wrong.
fn wrong(code: &str) -> String {
    code.chars().map(|digit| if digit == '9' { '0' } else { '9' }).collect()
}
