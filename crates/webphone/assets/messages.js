// @ts-check
/** What the page says about errors. */

import { ApiError, ChangedError, OfflineError, RemovedError } from './wire.js';

/** Where this page can work: https://developer.mozilla.org/docs/Web/Security/Secure_Contexts. */
export const INSECURE = 'This page needs HTTPS. Ask for its https:// address.';

export const UNSUPPORTED = 'This browser cannot keep keys. Use a current browser, and no private window.';

export const INVALID_LINK = 'This link is incomplete or was altered. Ask for a new code.';

export const FOREIGN_LINK = 'This link is for another server. Open it in your browser instead.';

const OFFLINE = 'The server does not respond. Check your connection and try again.';

const SPENT_CODE = 'This code was already used or has expired. Ask for a new code.';

/**
 * Returns the sentence about a failed enrollment.
 * @param {unknown} error
 */
export function enrollmentError(error) {
    if (error instanceof DOMException) {
        return UNSUPPORTED;
    }
    if (!(error instanceof ApiError)) {
        return generalError(error);
    }
    if (error.status === 401) {
        return SPENT_CODE;
    }
    if (error.code === 60313) {
        return 'This code is for another user or service. Ask for a new code.';
    }
    if (error.status === 404) {
        return 'The service of this code does not exist anymore. Ask for a new code.';
    }
    if (error.code === 60315) {
        return 'This user has too many phones. Ask for an old one to be removed.';
    }
    return generalError(error);
}

/**
 * Returns the sentence about any other failed request.
 * @param {unknown} error
 */
export function generalError(error) {
    if (error instanceof OfflineError) {
        return OFFLINE;
    }
    if (error instanceof RemovedError) {
        return 'The server does not know this phone anymore.';
    }
    if (error instanceof ChangedError) {
        return 'The request has changed while you read it. Read it again.';
    }
    if (error instanceof ApiError && error.status === 404) {
        return 'This request does not exist anymore.';
    }
    if (error instanceof ApiError && error.status === 429) {
        return 'Too many requests. Wait a minute and try again.';
    }
    if (error instanceof ApiError && error.status >= 500) {
        return 'The server has a problem. Try again later.';
    }
    return `Something went wrong: ${error instanceof Error ? error.message : error}`;
}
