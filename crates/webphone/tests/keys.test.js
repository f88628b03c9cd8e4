/** Signatures: test vectors of the device protocol, made with throw-away keys. */

import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import crypto from 'node:crypto';
import { test } from 'node:test';

import {
    answerPayload,
    exportPublicKey,
    generateKeyPair,
    signAnswer,
    signDeviceToken,
    signFactorSid,
    toBase64Url,
    toDer,
} from '../assets/keys.js';

const PUBLIC_KEY =
    'MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEGrFny9YPM/iRZzoukU8sWZbj/3KHjMMVSqQGpb8xpBKavf37cNWfrURpmblSIEjq8juJAekll1MundswaFrQ8w==';
const FACTOR_SID = 'YF03333333333333333333333333333333';
const PROOF =
    'MEUCIGRkXWOju0Dqc2++baMY5wSwlb1sKkM0ZSjvTfal6Y+MAiEAnRDt5cDq2FAeV4UmsTsjFTizwRNlXmhxSIlPRGtcHHQ=';
const DEVICE_TOKEN =
    'eyJjdHkiOiJ0d2lsaW8tcGJhO3Y9MSIsImtpZCI6IkNSNTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTUiLCJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJBQzExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTExIiwiZXhwIjoxNzY3MjI2MjAwLCJuYmYiOjE3NjcyMjU2MDB9.tkV7nrQPgDtErtTwQHaGTagwUBMbxwrtnqDAHYUmxx73gE3cV-QsOnC6mxKfK_-HTLyu_r_O4xJ2PxUarAwRtQ';
const ANSWER =
    'eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJoaWRkZW5fZGV0YWlscyI6eyJ0eG4iOiJhXC9iIn0sImFjY291bnRfc2lkIjoiQUMxMTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMSIsInNpZCI6IllDMDM0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQiLCJleHBpcmF0aW9uX2RhdGUiOiIyMDI2LTAxLTAxVDAwOjA1OjAwWiIsImRhdGVfY3JlYXRlZCI6IjIwMjYtMDEtMDFUMDA6MDA6MDBaIiwic3RhdHVzIjoiYXBwcm92ZWQiLCJmYWN0b3Jfc2lkIjoiWUYwMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMyIsImRldGFpbHMiOnsibWVzc2FnZSI6IkxvZ2luIHRvIGh0dHBzOlwvXC9leGFtcGxlLmNvbVwvPyIsImZpZWxkcyI6W3sibGFiZWwiOiJJUCIsInZhbHVlIjoiMjAzLjAuMTEzLjkifV19LCJzZXJ2aWNlX3NpZCI6IlZBMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIiLCJpZGVudGl0eSI6InVzZXItMDAwMS1hYmNkIn0.6wzHz6AwKes4hKwFX6swPD0syyp7GwVci3-iWOdOz9lFVu6Q7X8HylyRZgn_O-arup5G8a7Da1gQZOYL_0BU2A';

const FIELDS =
    'hidden_details,account_sid,sid,expiration_date,date_created,status,factor_sid,details,service_sid,identity';
const CHALLENGE = {
    hidden_details: { txn: 'a/b' },
    account_sid: 'AC' + '1'.repeat(32),
    sid: 'YC03' + '4'.repeat(30),
    expiration_date: '2026-01-01T00:05:00Z',
    date_created: '2026-01-01T00:00:00Z',
    status: 'pending',
    factor_sid: FACTOR_SID,
    details: { message: 'Login to https://example.com/?', fields: [{ label: 'IP', value: '203.0.113.9' }] },
    service_sid: 'VA' + '2'.repeat(32),
    identity: 'user-0001-abcd',
    url: 'https://verify.example.com/',
};

const publicKey = crypto.createPublicKey({ key: Buffer.from(PUBLIC_KEY, 'base64'), format: 'der', type: 'spki' });

/** Returns whether OpenSSL accepts a signature. */
function accepts(key, text, signature, dsaEncoding = 'ieee-p1363') {
    return crypto.verify('sha256', Buffer.from(text), { key, dsaEncoding }, signature);
}

/** Returns the public key of a pair for OpenSSL. */
async function forOpenssl(pair) {
    const der = Buffer.from(await exportPublicKey(pair.publicKey), 'base64');
    return crypto.createPublicKey({ key: der, format: 'der', type: 'spki' });
}

const parts = (jwt) => jwt.split('.').map((part) => Buffer.from(part, 'base64url'));
const json = (bytes) => JSON.parse(bytes.toString());

test('device token has header and payload of the test vector', async () => {
    const pair = await generateKeyPair();
    const token = await signDeviceToken(
        { key: pair.privateKey, credentialSid: 'CR' + '5'.repeat(32), accountSid: 'AC' + '1'.repeat(32) },
        1767225600,
    );
    const [header, payload] = token.split('.');
    assert.deepEqual([header, payload], DEVICE_TOKEN.split('.').slice(0, 2));
    const signature = parts(token)[2];
    assert.equal(signature.length, 64);
    assert.ok(accepts(await forOpenssl(pair), `${header}.${payload}`, signature));
});

test('answer has the claims of the test vector', async () => {
    const pair = await generateKeyPair();
    const answer = await signAnswer(pair.privateKey, CHALLENGE, FIELDS, 'approved');
    const [header, payload, signature] = parts(answer);
    const expected = parts(ANSWER);
    assert.deepEqual(header, expected[0]);
    assert.deepEqual(json(payload), json(expected[1]));
    assert.deepEqual(Object.keys(json(payload)), Object.keys(json(expected[1])));
    const signed = answer.slice(0, answer.lastIndexOf('.'));
    assert.ok(accepts(await forOpenssl(pair), signed, signature));
});

test('signatures of the test vectors are accepted by the check that these tests use', () => {
    for (const jwt of [DEVICE_TOKEN, ANSWER]) {
        assert.ok(accepts(publicKey, jwt.slice(0, jwt.lastIndexOf('.')), parts(jwt)[2]));
    }
    assert.ok(accepts(publicKey, FACTOR_SID, Buffer.from(PROOF, 'base64'), 'der'));
});

test('conversion to DER gives the bytes of the test vector', () => {
    const der = Buffer.from(PROOF, 'base64');
    // 30 len, 02 20 and 32 bytes, 02 21 00 and 32 bytes.
    const raw = Buffer.concat([der.subarray(4, 36), der.subarray(39)]);
    assert.deepEqual(Buffer.from(toDer(raw)), der);
});

test('numbers of a signature are shortened and padded as DER requires', () => {
    const number = (...last) => [...new Array(32 - last.length).fill(0), ...last];
    const der = (r, s) => [...toDer(Uint8Array.from([...r, ...s]))];
    assert.deepEqual(der(number(1), number(0x7f)), [0x30, 6, 2, 1, 1, 2, 1, 0x7f]);
    assert.deepEqual(der(number(0x80), number(0, 0x80, 0)), [0x30, 9, 2, 2, 0, 0x80, 2, 3, 0, 0x80, 0]);
    assert.deepEqual(der(number(), number(0xff)), [0x30, 7, 2, 1, 0, 2, 2, 0, 0xff]);
});

test('OpenSSL accepts every proof of a factor SID', async () => {
    const pair = await generateKeyPair();
    const key = await forOpenssl(pair);
    for (let count = 0; count < 300; count += 1) {
        const proof = await signFactorSid(pair.privateKey, FACTOR_SID);
        assert.ok(accepts(key, FACTOR_SID, Buffer.from(proof, 'base64'), 'der'), proof);
    }
});

test('private key cannot be exported', async () => {
    const { privateKey, publicKey: exportable } = await generateKeyPair();
    assert.equal(privateKey.extractable, false);
    for (const format of ['pkcs8', 'jwk']) {
        await assert.rejects(crypto.subtle.exportKey(format, privateKey), { name: /^InvalidAccess/ });
    }
    assert.equal(Buffer.from(await exportPublicKey(exportable), 'base64').length, 91);
});

test('answer copies values as they are, and only the named ones', () => {
    const hidden = JSON.parse('{"2":"b","1":"a","__proto__":"c","\\u2028":"\\ud83d\\ude00"}');
    const challenge = { ...CHALLENGE, hidden_details: hidden, identity: null };
    const payload = answerPayload(challenge, FIELDS, 'denied');
    assert.equal(JSON.stringify(payload.hidden_details), JSON.stringify(hidden));
    assert.equal(payload.identity, null);
    assert.equal(payload.status, 'denied');
    assert.ok(!('url' in payload));
    assert.deepEqual(answerPayload(challenge, 'sid', 'denied'), { sid: CHALLENGE.sid, status: 'denied' });
});

test('answer is refused if a field is missing or no field is named', () => {
    assert.throws(() => answerPayload(CHALLENGE, 'sid,absent', 'approved'), /no absent/);
    assert.throws(() => answerPayload(CHALLENGE, 'sid, status', 'approved'), /no  status/);
    assert.throws(() => answerPayload(CHALLENGE, 'toString', 'approved'), /no toString/);
    assert.throws(() => answerPayload(CHALLENGE, '', 'approved'), /does not name/);
});

test('long payload is encoded as Buffer encodes it', () => {
    for (const length of [0, 1, 2, 3, 8189, 8190, 8191, 50_000]) {
        const bytes = crypto.randomBytes(length);
        assert.equal(toBase64Url(bytes), bytes.toString('base64url'));
    }
});
