// @ts-check
/**
 * The device protocol over HTTP (docs/protocol/device.md): the requests that an app with Twilio's SDKs sends.
 *
 * Every request goes to the server of this page. A device lists and answers only challenges of its own factor, which is
 * a push factor: those of other types never reach it.
 */

import { exportPublicKey, signAnswer, signDeviceToken, signFactorSid } from './keys.js';

/** `Config.AppId` of the factors that this page creates. */
const APP_ID = 'countersign.webphone';

/** `Config.SdkVersion`: the version of Countersign whose page this is. */
const SDK_VERSION = 'web-0.1.0';

/** How long a response may take, in milliseconds. */
const REQUEST_TIMEOUT_MS = 30_000;

/** Difference between the clocks from which on the local one is corrected, in seconds. `Date` has whole seconds. */
const TOLERANCE_SECONDS = 2;

/** Number of challenges on a page of a list. */
const PAGE_SIZE = 20;

/**
 * What the phone keeps about a factor.
 * @typedef {object} Enrollment
 * @property {string} factorSid
 * @property {string} credentialSid the `kid` of device tokens
 * @property {string} accountSid
 * @property {string} serviceSid
 * @property {string} identity
 * @property {string} name
 * @property {boolean} isVerified
 * @property {string} createdAt
 * @property {CryptoKey} key the private key, which cannot be exported
 */

/**
 * A challenge as the server sends it. Further members are signed, but not shown.
 * @typedef {Record<string, unknown> & {
 *     sid: string,
 *     status: 'pending' | 'approved' | 'denied' | 'expired',
 *     details: { message: string, fields?: { label: string, value: string }[] | null, date?: string | null },
 *     date_created: string,
 *     date_updated: string,
 *     date_responded: string | null,
 *     expiration_date: string,
 * }} Challenge
 */

/** The server refused a request. */
export class ApiError extends Error {
    /**
     * @param {number} status
     * @param {number} code
     * @param {string} message
     */
    constructor(status, code, message) {
        super(message);
        this.name = 'ApiError';
        this.status = status;
        this.code = code;
    }
}

/** The server refused two device tokens in a row, although the clock is right: it does not know the factor. */
export class RemovedError extends Error {
    name = 'RemovedError';
}

/** There was no response. */
export class OfflineError extends Error {
    name = 'OfflineError';
}

/** The challenge differs from the one that was shown. */
export class ChangedError extends Error {
    name = 'ChangedError';
}

/** The connection to the server of this page. */
export class Wire {
    /** Seconds by which the server's clock is ahead of this machine's. */
    #offset = 0;

    /**
     * @param {URL} base address below which the API is found, with a slash at its end
     * @param {typeof fetch} [fetchFunction]
     */
    constructor(base, fetchFunction = (...request) => fetch(...request)) {
        this.base = base;
        this.fetch = fetchFunction;
    }

    /** Returns the server's time, in seconds since 1970. */
    now() {
        return Math.floor(Date.now() / 1000) + this.#offset;
    }

    /**
     * Creates an unverified factor. May be repeated with the same key if the response was lost.
     * @param {import('./link.js').Grant} grant
     * @param {CryptoKeyPair} keyPair
     * @param {string} name
     * @returns {Promise<Enrollment>}
     */
    async createFactor({ token, serviceSid, identity }, keyPair, name) {
        const form = new URLSearchParams({
            FriendlyName: name,
            FactorType: 'push',
            'Binding.PublicKey': await exportPublicKey(keyPair.publicKey),
            'Binding.Alg': 'ES256',
            'Config.AppId': APP_ID,
            'Config.NotificationPlatform': 'none',
            'Config.SdkVersion': SDK_VERSION,
        });
        const path = `${entityPath({ serviceSid, identity })}/Factors`;
        const factor = await readBody(await this.#send('POST', path, token, form));
        return {
            factorSid: factor.sid,
            credentialSid: factor.config.credential_sid,
            accountSid: factor.account_sid,
            serviceSid,
            identity,
            name: factor.friendly_name,
            isVerified: factor.status === 'verified',
            createdAt: factor.date_created,
            key: keyPair.privateKey,
        };
    }

    /**
     * Proves that this browser has the key of a new factor. Returns the enrollment with its new state.
     * @param {Enrollment} enrollment
     * @returns {Promise<Enrollment>}
     */
    async verifyFactor(enrollment) {
        const form = new URLSearchParams({
            AuthPayload: await signFactorSid(enrollment.key, enrollment.factorSid),
        });
        const factor = await readBody(await this.#sendSigned(enrollment, 'POST', factorPath(enrollment), form));
        return { ...enrollment, isVerified: factor.status === 'verified' };
    }

    /**
     * Renames a factor. Returns the enrollment with its new name.
     * @param {Enrollment} enrollment
     * @param {string} name
     * @returns {Promise<Enrollment>}
     */
    async renameFactor(enrollment, name) {
        const form = new URLSearchParams({ FriendlyName: name, 'Config.SdkVersion': SDK_VERSION });
        const factor = await readBody(await this.#sendSigned(enrollment, 'POST', factorPath(enrollment), form));
        return { ...enrollment, name: factor.friendly_name };
    }

    /**
     * Deletes a factor. Succeeds if it does not exist.
     * @param {Enrollment} enrollment
     */
    async deleteFactor(enrollment) {
        try {
            await requireSuccess(await this.#sendSigned(enrollment, 'DELETE', factorPath(enrollment)));
        } catch (error) {
            if (!(error instanceof RemovedError || (error instanceof ApiError && error.status === 404))) {
                throw error;
            }
        }
    }

    /**
     * Returns a page of challenges, the newest first.
     * @param {Enrollment} enrollment
     * @param {{ status?: string, pageToken?: string }} [filter]
     * @returns {Promise<{ challenges: Challenge[], nextPageToken: string | null }>}
     */
    async listChallenges(enrollment, { status, pageToken } = {}) {
        const query = new URLSearchParams({
            PageSize: String(PAGE_SIZE),
            FactorSid: enrollment.factorSid,
            Order: 'desc',
            ...(status && { Status: status }),
            ...(pageToken && { PageToken: pageToken }),
        });
        const path = `${entityPath(enrollment)}/Challenges?${query}`;
        const { challenges, meta } = await readBody(await this.#sendSigned(enrollment, 'GET', path));
        const next = meta.next_page_url && new URL(meta.next_page_url).searchParams.get('PageToken');
        return { challenges, nextPageToken: next || null };
    }

    /**
     * Returns a challenge.
     * @param {Enrollment} enrollment
     * @param {string} sid
     * @returns {Promise<Challenge>}
     */
    async getChallenge(enrollment, sid) {
        return (await this.#fetchChallenge(enrollment, sid)).challenge;
    }

    /**
     * Answers a challenge, unless it is not pending anymore. Like the SDKs, this reads the challenge, answers it and
     * reads it again.
     * @param {Enrollment} enrollment
     * @param {Challenge} shown the challenge as it was shown to the user
     * @param {'approved' | 'denied'} status
     * @param {Record<string, string>} [metadata] stored with the answer, for the backend
     * @returns {Promise<{ challenge: Challenge, isAnswered: boolean }>} the challenge afterwards, and whether this
     *     call has answered it
     * @throws {ChangedError} if the challenge is not the one that was shown
     */
    async answer(enrollment, shown, status, metadata) {
        const { challenge, fieldNames } = await this.#fetchChallenge(enrollment, shown.sid);
        if (challenge.status !== 'pending') {
            return { challenge, isAnswered: false };
        }
        // The signature covers what the server sent just now, so this must be what the user has read.
        if (JSON.stringify(challenge.details) !== JSON.stringify(shown.details)) {
            throw new ChangedError('the request has changed');
        }
        const form = new URLSearchParams({
            AuthPayload: await signAnswer(enrollment.key, challenge, fieldNames, status),
            ...(metadata && { Metadata: JSON.stringify(metadata) }),
        });
        const path = challengePath(enrollment, shown.sid);
        let isAnswered = true;
        try {
            await requireSuccess(await this.#sendSigned(enrollment, 'POST', path, form));
        } catch (error) {
            // Another request was faster, or the challenge has just expired.
            if (!(error instanceof ApiError && [60322, 60323].includes(error.code))) {
                throw error;
            }
            isAnswered = false;
        }
        return { challenge: await this.getChallenge(enrollment, shown.sid), isAnswered };
    }

    /**
     * Opens the stream of a factor's challenges. Unlike the other requests, this one is not repeated after a 401.
     * @param {Enrollment} enrollment
     * @param {AbortSignal} signal
     */
    async openStream(enrollment, signal) {
        const { serviceSid, identity, factorSid } = enrollment;
        const path = `countersign/v1/Services/${serviceSid}/Entities/${identity}/Factors/${factorSid}/Events`;
        const token = await signDeviceToken(enrollment, this.now());
        return this.#fetch(path, { headers: { Accept: 'text/event-stream', ...authorization(token) }, signal });
    }

    /**
     * @param {Enrollment} enrollment
     * @param {string} sid
     */
    async #fetchChallenge(enrollment, sid) {
        const response = await this.#sendSigned(enrollment, 'GET', challengePath(enrollment, sid));
        const fieldNames = response.headers.get('Twilio-Verify-Signature-Fields') ?? '';
        return { challenge: /** @type {Challenge} */ (await readBody(response)), fieldNames };
    }

    /**
     * Sends a request with a device token. After a 401 the request is repeated once, with the corrected clock.
     * @param {Enrollment} enrollment
     * @param {string} method
     * @param {string} path
     * @param {URLSearchParams} [form]
     */
    async #sendSigned(enrollment, method, path, form) {
        const send = async () => this.#send(method, path, await signDeviceToken(enrollment, this.now()), form);
        const response = await send();
        if (response.status !== 401 || !response.headers.has('Date')) {
            return response;
        }
        const repeated = await send();
        if (repeated.status === 401) {
            throw new RemovedError('the server does not know this phone');
        }
        return repeated;
    }

    /**
     * @param {string} method
     * @param {string} path
     * @param {string} token
     * @param {URLSearchParams} [form]
     */
    #send(method, path, token, form) {
        const headers = { Accept: 'application/json', ...authorization(token) };
        return this.#fetch(path, { method, headers, body: form, signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
    }

    /**
     * @param {string} path
     * @param {RequestInit} request
     */
    async #fetch(path, request) {
        let response;
        try {
            response = await this.fetch(new URL(path, this.base), {
                ...request,
                // Otherwise the browser would answer a 401 with its own dialog, and `fetch` would wait for it.
                credentials: 'omit',
                cache: 'no-store',
                redirect: 'error',
                referrerPolicy: 'no-referrer',
            });
        } catch (cause) {
            throw new OfflineError('the server does not respond', { cause });
        }
        this.#adjustClock(response.headers.get('Date'));
        return response;
    }

    /** @param {string | null} date the header `Date` */
    #adjustClock(date) {
        const serverTime = Math.floor(Date.parse(date ?? '') / 1000);
        const offset = serverTime - Math.floor(Date.now() / 1000);
        if (Number.isFinite(offset)) {
            this.#offset = Math.abs(offset) > TOLERANCE_SECONDS ? offset : 0;
        }
    }
}

/** @param {string} token */
function authorization(token) {
    return { Authorization: `Basic ${btoa(`token:${token}`)}` };
}

/** @param {{ serviceSid: string, identity: string }} entity */
function entityPath({ serviceSid, identity }) {
    return `v2/Services/${serviceSid}/Entities/${identity}`;
}

/** @param {Enrollment} enrollment */
function factorPath(enrollment) {
    return `${entityPath(enrollment)}/Factors/${enrollment.factorSid}`;
}

/**
 * @param {Enrollment} enrollment
 * @param {string} sid
 */
function challengePath(enrollment, sid) {
    return `${entityPath(enrollment)}/Challenges/${encodeURIComponent(sid)}`;
}

/**
 * Returns the JSON body of a successful response.
 * @param {Response} response
 * @returns {Promise<any>}
 */
async function readBody(response) {
    await requireSuccess(response);
    try {
        return await response.json();
    } catch (cause) {
        throw new OfflineError('the response is incomplete', { cause });
    }
}

/** @param {Response} response */
async function requireSuccess(response) {
    if (response.ok) {
        return;
    }
    const body = await response.json().catch(() => null);
    throw new ApiError(response.status, Number(body?.code ?? 0), String(body?.message ?? response.statusText));
}
