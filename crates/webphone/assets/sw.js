// @ts-check
/// <reference lib="webworker" />
/**
 * Serves the page's own files: from the server if it responds, else as they were last. If the server no longer has the
 * page, the copies are deleted.
 *
 * The server comes first so that a corrected page is used at once. Requests of the device protocol are not touched.
 */

const CACHE = 'countersign-phone';

/** How long the server may take until the kept copy is used, in milliseconds. */
const TIMEOUT_MS = 4_000;

const FILES = [
    './',
    'app.js',
    'fragment.js',
    'icon-180.png',
    'icon-192.png',
    'icon-512.png',
    'icon-maskable-512.png',
    'keys.js',
    'link.js',
    'manifest.webmanifest',
    'messages.js',
    'phone.css',
    'phones.js',
    'registration.js',
    'store.js',
    'stream.js',
    'text.js',
    'view.js',
    'wire.js',
];

const worker = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self));
const urls = new Set(FILES.map((file) => new URL(file, worker.registration.scope).href));

worker.addEventListener('install', (event) => {
    event.waitUntil(keepAll());
});

worker.addEventListener('activate', (event) => {
    event.waitUntil(worker.clients.claim());
});

worker.addEventListener('fetch', (event) => {
    const { request } = event;
    if (request.method === 'GET' && urls.has(request.url)) {
        event.respondWith(serve(request));
    }
});

async function keepAll() {
    const cache = await caches.open(CACHE);
    await cache.addAll([...urls].map((url) => new Request(url, { cache: 'no-cache', credentials: 'omit' })));
    await worker.skipWaiting();
}

/**
 * Returns a file from the server, or the copy of it.
 * @param {Request} request
 */
async function serve(request) {
    const cache = await caches.open(CACHE);
    try {
        const response = await fetch(request.url, {
            cache: 'no-cache',
            credentials: 'omit',
            signal: AbortSignal.timeout(TIMEOUT_MS),
        });
        if (response.ok) {
            await cache.put(request.url, response.clone());
            return response;
        }
        if (response.status === 404 || response.status === 410) {
            // The operator has turned the page off, perhaps because of a fault in it, so copies must not run either.
            await caches.delete(CACHE);
            await worker.registration.unregister();
            return response;
        }
        return (await cache.match(request.url)) ?? response;
    } catch {
        return (await cache.match(request.url)) ?? Response.error();
    }
}
