/* Hashes what makes a message the message that it is. */
#include "identity.h"

#include <openssl/evp.h>
#include <string.h>

#include "copy.h"

enum { ENDS_LEN = 4096 }; /* of a body, at its beginning and at its end */

static EVP_MD *sha256; /* never freed: threads that are stuck may outlive everything */

void identity_init(void)
{
	if (!sha256)
		sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

/* Most of what is hashed is a few bytes long, and to hash it costs less than the call. */
struct hasher {
	EVP_MD_CTX *context;
	bool good;
	unsigned char gathered[512];
	size_t n;
};

static void hash(struct hasher *h, const void *data, size_t len)
{
	h->good = h->good && (len == 0 || EVP_DigestUpdate(h->context, data, len) == 1);
}

static void put(struct hasher *h, const void *data, size_t len)
{
	if (len > sizeof(h->gathered) - h->n) {
		hash(h, h->gathered, h->n);
		h->n = 0;
	}
	if (len > sizeof(h->gathered)) {
		hash(h, data, len);
	} else if (len) {
		memcpy(h->gathered + h->n, data, len);
		h->n += len;
	}
}

static void put_number(struct hasher *h, uint64_t n)
{
	put(h, &n, sizeof(n));
}

/* With its length before it, so that nothing can run over into its neighbour. */
static void put_bytes(struct hasher *h, struct bytes bytes)
{
	put_number(h, bytes.len);
	put(h, bytes.data, bytes.len);
}

static void put_table(struct hasher *h, const struct table *table);

static void put_value(struct hasher *h, const struct value *value)
{
	put_number(h, value->kind);
	switch ((enum value_kind)value->kind) {
	case VALUE_VOID:
		break;
	case VALUE_BOOL:
		put_number(h, value->boolean);
		break;
	case VALUE_INT:
	case VALUE_UINT:
	case VALUE_DOUBLE:
	case VALUE_TIMESTAMP:
		put_number(h, value->natural);
		break;
	case VALUE_DECIMAL:
		put_number(h, value->scale);
		put_number(h, value->natural);
		break;
	case VALUE_STRING:
	case VALUE_BYTES:
		put_bytes(h, value->bytes);
		break;
	case VALUE_ARRAY:
		put_number(h, value->array.n);
		for (size_t i = 0; i < value->array.n; i++)
			put_value(h, &value->array.items[i]);
		break;
	case VALUE_TABLE:
		put_table(h, &value->table);
		break;
	}
}

/* What is dropped from copies may be missing the next time, and counts for nothing; the end is
 * marked by an empty key, which no message can have here (MSG_HEADERS_BROKEN). */
static void put_table(struct hasher *h, const struct table *table)
{
	for (size_t i = 0; i < table->n; i++) {
		if (copy_drops_header(table->fields[i].key))
			continue;
		put_bytes(h, table->fields[i].key);
		put_value(h, &table->fields[i].value);
	}
	put_number(h, 0);
}

static void put_properties(struct hasher *h, const struct props *props)
{
	const uint32_t changing =
	    PROP_DELIVERY_MODE | PROP_EXPIRATION | PROP_USER_ID | PROP_HEADERS;
	const struct bytes texts[] = { props->content_type, props->content_encoding,
		props->correlation_id, props->reply_to, props->message_id, props->type,
		props->app_id, props->cluster_id };

	put_number(h, props->present & ~changing);
	put_number(h, props->present & PROP_PRIORITY ? props->priority : 0);
	put_number(h, props->present & PROP_TIMESTAMP ? props->timestamp : 0);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		put_bytes(h, texts[i]);
	put_table(h, &props->headers);
}

static void put_body(struct hasher *h, struct bytes body)
{
	size_t head = body.len < ENDS_LEN ? body.len : ENDS_LEN;
	size_t rest = body.len - head;
	size_t tail = rest < ENDS_LEN ? rest : ENDS_LEN;

	put_number(h, body.len);
	put(h, body.data, head);
	if (tail)
		put(h, body.data + body.len - tail, tail);
}

void identity_of(const struct warren_job *job, uint8_t identity[IDENTITY_LEN])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	struct hasher h;

	h.context = EVP_MD_CTX_new();
	h.n = 0;
	memset(identity, 0, IDENTITY_LEN);
	h.good =
	    h.context && EVP_DigestInit_ex(h.context, sha256 ? sha256 : EVP_sha256(), NULL) == 1;
	put_bytes(&h, bytes_of(job->queue->name));
	put_bytes(&h, job->first_exchange);
	put_bytes(&h, job->first_routing_key);
	put_body(&h, job->msg.body);
	put_properties(&h, &job->msg.props);
	hash(&h, h.gathered, h.n);
	if (h.good && EVP_DigestFinal_ex(h.context, digest, NULL) == 1)
		memcpy(identity, digest, IDENTITY_LEN);
	EVP_MD_CTX_free(h.context);
}
