/* Records about connections and queues; what is read is bounded first, since a plugin may have
 * scribbled over it. */
#include "board.h"

_Static_assert(sizeof(struct board_conn) % 8 == 0, "whole words");
_Static_assert(sizeof(struct board_source) % 8 == 0, "whole words");

void board_write_conn(struct board_conn_row *row, const struct board_conn *conn)
{
	seqlock_write(&row->seq, &row->conn, conn, sizeof(*conn));
}

void board_write_source(struct board_source_row *row, const struct board_source *source)
{
	seqlock_write(&row->seq, &row->source, source, sizeof(*source));
}

static void bound_time(int64_t *ns)
{
	*ns = *ns < 0 ? 0 : *ns;
}

bool board_read_conn(const struct board_conn_row *row, struct board_conn *conn)
{
	if (!seqlock_read(&row->seq, &row->conn, conn, sizeof(*conn)) ||
	    conn->state <= BOARD_NO_CONN || conn->state > BOARD_BLOCKED)
		return false;
	conn->broker[sizeof(conn->broker) - 1] = '\0';
	conn->product[sizeof(conn->product) - 1] = '\0';
	conn->error[sizeof(conn->error) - 1] = '\0';
	bound_time(&conn->since_ns);
	bound_time(&conn->retry_at_ns);
	bound_time(&conn->error_at_ns);
	return true;
}

bool board_read_source(const struct board_source_row *row, struct board_source *source)
{
	if (!seqlock_read(&row->seq, &row->source, source, sizeof(*source)) ||
	    source->state <= BOARD_NO_QUEUE || source->state > BOARD_PAUSED)
		return false;
	source->text[sizeof(source->text) - 1] = '\0';
	bound_time(&source->since_ns);
	bound_time(&source->retry_at_ns);
	bound_time(&source->seen_ns);
	source->ready = source->ready < 0 ? -1 : source->ready;
	source->dead = source->dead < 0 ? -1 : source->dead;
	return true;
}
