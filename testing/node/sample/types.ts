// Compiled, not run: the declarations of the package fit how it is used.
import { countersign, field, Server, type Behaviour } from "@countersign/testing";
import twilio from "twilio";

export async function useAll(): Promise<void> {
  const cs = await countersign({ ownServer: true });
  const behaviour: Behaviour = { default: { do: "ignore" }, script: [{ do: "deny" }, { do: "approve", after: "PT3S" }] };
  const phone = await cs.device({ identity: "user-0001", behaviour, push: "apn" });
  const client: twilio.Twilio = cs.twilio(twilio);
  await client.verify.v2.services(phone.serviceSid).fetch();
  const code: string = field(await phone.approve({ wait: 1 }), "Code");
  const push = await cs.pushes.wait({ factorSid: phone.factorSid, timeout: 1 });
  const webhook = await cs.webhooks.wait({ where: (item) => item.attempts.some(({ status }) => status === 500) });
  const moment: Date = await cs.clock.advance({ minutes: 5 });
  const server: Server = cs.server;
  console.log(code, push.outcome, webhook.parameters.type, moment, server.url);
}
