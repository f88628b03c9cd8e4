// @ts-check
/** Enrollments with their keys, in the browser's own database. */

const DATABASE = 'countersign-phone';
const ENROLLMENTS = 'enrollments';

/** Keys that are kept before the server knows them, so that the access token is not spent in vain. */
const TRIAL = 'trial';

/** @typedef {import('./wire.js').Enrollment} Enrollment */

export class Store {
    /** @param {IDBDatabase} database */
    constructor(database) {
        this.database = database;
    }

    /**
     * Opens the database, and creates it if necessary.
     * @returns {Promise<Store>}
     */
    static async open() {
        const request = indexedDB.open(DATABASE, 1);
        request.onupgradeneeded = () => {
            request.result.createObjectStore(ENROLLMENTS, { keyPath: 'factorSid' });
            request.result.createObjectStore(TRIAL);
        };
        return new Store(await finished(request));
    }

    /**
     * Returns all enrollments, the oldest first.
     * @returns {Promise<Enrollment[]>}
     */
    async enrollments() {
        const enrollments = await finished(this.#objects(ENROLLMENTS, 'readonly').getAll());
        return enrollments.sort((one, other) => one.createdAt.localeCompare(other.createdAt));
    }

    /** @param {Enrollment} enrollment */
    async put(enrollment) {
        await finished(this.#objects(ENROLLMENTS, 'readwrite').put(enrollment));
    }

    /** @param {string} factorSid */
    async remove(factorSid) {
        await finished(this.#objects(ENROLLMENTS, 'readwrite').delete(factorSid));
    }

    /**
     * Checks that this browser keeps keys: some private windows do not.
     * @param {CryptoKey} key
     * @throws {DOMException} if the key cannot be kept
     */
    async requireKeys(key) {
        await finished(this.#objects(TRIAL, 'readwrite').put(key, 'key'));
        await finished(this.#objects(TRIAL, 'readwrite').clear());
    }

    /**
     * @param {string} name
     * @param {IDBTransactionMode} mode
     */
    #objects(name, mode) {
        return this.database.transaction(name, mode, { durability: 'strict' }).objectStore(name);
    }
}

/**
 * Waits for a request, and for the commit of the transaction that it belongs to.
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
function finished(request) {
    return new Promise((resolve, reject) => {
        request.onerror = () => reject(request.error);
        request.onsuccess = () => {
            const { transaction, result } = request;
            if (!transaction || transaction.mode !== 'readwrite') {
                resolve(result);
                return;
            }
            transaction.oncomplete = () => resolve(result);
            transaction.onabort = () => reject(transaction.error);
        };
    });
}
