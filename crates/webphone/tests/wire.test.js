/** Requests of the device protocol, against a server that a test plays. */

import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { test } from 'node:test';

import { generateKeyPair } from '../assets/keys.js';
import { ApiError, ChangedError, OfflineError, RemovedError, Wire } from '../assets/wire.js';

const BASE = new URL('https://verify.example.com/prefix/');
const SERVICE = 'VA' + '2'.repeat(32);
const GRANT = { token: 'access.token', serviceSid: SERVICE, identity: 'user-0001-abcd' };
const ENTITY = `/prefix/v2/Services/${SERVICE}/Entities/user-0001-abcd`;
const FACTOR = {
    sid: 'YF03' + '3'.repeat(30),
    account_sid: 'AC' + '1'.repeat(32),
    status: 'unverified',
    friendly_name: 'My phone',
    date_created: '2026-01-01T00:00:00Z',
    config: { credential_sid: 'CR' + '5'.repeat(32) },
};
const FIELDS = 'sid,status,details';
const PENDING = { sid: 'YC03' + '4'.repeat(30), status: 'pending', details: { message: 'Sign in?', fields: [] } };

const keyPair = await generateKeyPair();
const ENROLLMENT = {
    factorSid: FACTOR.sid,
    credentialSid: FACTOR.config.credential_sid,
    accountSid: FACTOR.account_sid,
    serviceSid: SERVICE,
    identity: GRANT.identity,
    name: 'My phone',
    isVerified: true,
    createdAt: FACTOR.date_created,
    key: keyPair.privateKey,
};

const date = (seconds = 0) => new Date(Date.now() + seconds * 1000).toUTCString();

function reply(status, body, headers = {}) {
    const text = status === 204 ? null : JSON.stringify(body);
    return new Response(text, { status, headers: { Date: date(), ...headers } });
}

const challenge = (status, more = {}) =>
    reply(200, { ...PENDING, status, ...more }, { 'Twilio-Verify-Signature-Fields': FIELDS });
const refused = (status, code, headers) => reply(status, { code, message: 'No', status }, headers);

/** Returns a wire to a server that sends these responses, and the requests that it has received. */
function server(...replies) {
    const requests = [];
    const wire = new Wire(BASE, async (url, request) => {
        requests.push({ url: new URL(url), ...request });
        const next = replies.shift();
        if (next instanceof Error) {
            throw next;
        }
        return next;
    });
    return { wire, requests, replies };
}

/** Returns the claims of the device token of a request. */
function claims({ headers }) {
    const token = Buffer.from(headers.Authorization.replace('Basic ', ''), 'base64').toString();
    assert.match(token, /^token:/);
    return JSON.parse(Buffer.from(token.slice('token:'.length).split('.')[1], 'base64url').toString());
}

test('factor is created with the fields that the SDKs send', async () => {
    const { wire, requests } = server(reply(201, FACTOR));
    const enrollment = await wire.createFactor(GRANT, keyPair, 'Me & my phone');
    assert.deepEqual(enrollment, { ...ENROLLMENT, isVerified: false });
    const [{ url, method, headers, body, credentials, redirect, cache }] = requests;
    assert.equal(`${method} ${url.pathname}`, `POST ${ENTITY}/Factors`);
    assert.equal(headers.Authorization, `Basic ${btoa('token:access.token')}`);
    assert.deepEqual([credentials, redirect, cache], ['omit', 'error', 'no-store']);
    const form = Object.fromEntries(body);
    assert.equal(form['Binding.PublicKey'].length, 124);
    delete form['Binding.PublicKey'];
    assert.match(form['Config.SdkVersion'], /^web-\d+\.\d+\.\d+$/);
    delete form['Config.SdkVersion'];
    assert.deepEqual(form, {
        FriendlyName: 'Me & my phone',
        FactorType: 'push',
        'Binding.Alg': 'ES256',
        'Config.AppId': 'countersign.webphone',
        'Config.NotificationPlatform': 'none',
    });
});

test('refused access token is not sent again', async () => {
    const { wire, requests } = server(refused(401, 20003));
    await assert.rejects(wire.createFactor(GRANT, keyPair, 'x'), { name: 'ApiError', status: 401, code: 20003 });
    assert.equal(requests.length, 1);
});

test('wrong clock is corrected from the header Date', async () => {
    for (const seconds of [1200, -1200]) {
        const list = { challenges: [], meta: { next_page_url: null } };
        const headers = { Date: date(seconds) };
        const { wire, requests } = server(refused(401, 20003, headers), reply(200, list, headers));
        await wire.listChallenges(ENROLLMENT, { status: 'pending' });
        const [wrong, right] = requests.map((request) => claims(request).nbf);
        assert.ok(Math.abs(right - wrong - seconds) <= 1, `${right - wrong}`);
        assert.equal(claims(requests[1]).exp - right, 600);
        assert.ok(Math.abs(wire.now() - Date.now() / 1000 - seconds) <= 2);
    }
});

test('second 401 means that the factor was removed', async () => {
    const { wire, requests } = server(refused(401, 20003), refused(401, 20003));
    await assert.rejects(wire.getChallenge(ENROLLMENT, PENDING.sid), RemovedError);
    assert.equal(requests.length, 2);
});

test('removal succeeds if the factor does not exist anymore', async () => {
    for (const replies of [[reply(204)], [refused(404, 20404)], [refused(401, 20003), refused(401, 20003)]]) {
        const { wire, requests } = server(...replies);
        await wire.deleteFactor(ENROLLMENT);
        assert.equal(`${requests[0].method} ${requests[0].url.pathname}`, `DELETE ${ENTITY}/Factors/${FACTOR.sid}`);
    }
    await assert.rejects(server(refused(500, 20500)).wire.deleteFactor(ENROLLMENT), ApiError);
});

test('lost connection is told apart from a refusal', async () => {
    await assert.rejects(server(new TypeError('Failed to fetch')).wire.getChallenge(ENROLLMENT, 'YC1'), OfflineError);
    const cut = new Response('{"sid":', { headers: { Date: date() } });
    await assert.rejects(server(cut).wire.getChallenge(ENROLLMENT, 'YC1'), OfflineError);
    const proxy = new Response('<html>', { status: 502 });
    await assert.rejects(server(proxy).wire.getChallenge(ENROLLMENT, 'YC1'), { name: 'ApiError', status: 502, code: 0 });
});

test('answer is read, sent and read again', async () => {
    const { wire, requests } = server(challenge('pending'), challenge('denied'), challenge('denied'));
    const result = await wire.answer(ENROLLMENT, PENDING, 'denied', { reason: 'not_me' });
    assert.deepEqual([result.isAnswered, result.challenge.status], [true, 'denied']);
    assert.deepEqual(
        requests.map(({ method = 'GET', url }) => `${method} ${url.pathname}`),
        ['GET', 'POST', 'GET'].map((method) => `${method} ${ENTITY}/Challenges/${PENDING.sid}`),
    );
    const form = Object.fromEntries(requests[1].body);
    const payload = JSON.parse(Buffer.from(form.AuthPayload.split('.')[1], 'base64url').toString());
    assert.deepEqual(payload, { sid: PENDING.sid, status: 'denied', details: PENDING.details });
    assert.equal(form.Metadata, '{"reason":"not_me"}');
    const plain = server(challenge('pending'), challenge('approved'), challenge('approved'));
    await plain.wire.answer(ENROLLMENT, PENDING, 'approved');
    assert.deepEqual([...plain.requests[1].body.keys()], ['AuthPayload']);
});

test('challenge that is not pending is not answered', async () => {
    const { wire, requests } = server(challenge('approved'));
    const result = await wire.answer(ENROLLMENT, PENDING, 'denied');
    assert.deepEqual([result.isAnswered, result.challenge.status, requests.length], [false, 'approved', 1]);
});

test('answer that loses a race shows the other answer', async () => {
    for (const [code, status] of [
        [60322, 'approved'],
        [60323, 'expired'],
    ]) {
        const { wire } = server(challenge('pending'), refused(403, code), challenge(status));
        const result = await wire.answer(ENROLLMENT, PENDING, 'denied');
        assert.deepEqual([result.isAnswered, result.challenge.status], [false, status]);
    }
    const { wire } = server(challenge('pending'), refused(403, 60324));
    await assert.rejects(wire.answer(ENROLLMENT, PENDING, 'denied'), { code: 60324 });
});

test('challenge that differs from the one shown is not answered', async () => {
    const { wire, requests } = server(challenge('pending', { details: { message: 'Pay?', fields: [] } }));
    await assert.rejects(wire.answer(ENROLLMENT, PENDING, 'approved'), ChangedError);
    assert.equal(requests.length, 1);
});

test('list is followed by the token of its next page', async () => {
    const next = 'http://internal/v2/x?PageToken=PT-1_2&Page=1';
    const { wire, requests } = server(
        reply(200, { challenges: [PENDING], meta: { next_page_url: next } }),
        reply(200, { challenges: [], meta: { next_page_url: null } }),
    );
    const first = await wire.listChallenges(ENROLLMENT);
    assert.deepEqual(first, { challenges: [PENDING], nextPageToken: 'PT-1_2' });
    const second = await wire.listChallenges(ENROLLMENT, { pageToken: first.nextPageToken });
    assert.equal(second.nextPageToken, null);
    assert.deepEqual(
        requests.map(({ url }) => Object.fromEntries(url.searchParams)),
        [{}, { PageToken: 'PT-1_2' }].map((more) => ({
            PageSize: '20',
            FactorSid: FACTOR.sid,
            Order: 'desc',
            ...more,
        })),
    );
});
