"""Between AMQP and the model: which link an attach asks for, and what goes over it."""
